"""What stands in for a running container: a process of this machine, or what merely counts as running.

Signals and exit codes are a container's; restarts are decided elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vfio_ap_sim.controlplane import die_with_parent


class Process(Protocol):
    """A container that was started."""

    async def wait(self) -> int:
        """Return the exit code once it ended; 128 and the signal's number where a signal ended it."""

    def terminate(self) -> None:
        """Ask it to end, as SIGTERM does."""

    def kill(self) -> None:
        """End it and all it started."""


class LocalProcess:
    """A process of this machine with a session of its own, which ends at the latest when this program does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> LocalProcess:
        """Start ``argv``, looked up on the PATH in ``env``, with its output appended to ``log``.

        Raises:
            FileNotFoundError: there is no such program.
        """
        program = shutil.which(argv[0], path=env.get("PATH"))
        if program is None:
            raise FileNotFoundError(f'exec: "{argv[0]}": executable file not found in $PATH')
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, die_with_parent.__file__, str(os.getpid())),
                *(program, *argv[1:]),
                env=env,
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Process ID on this machine."""
        return self._process.pid

    async def wait(self) -> int:
        """See Process."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """See Process."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """See Process."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class PlayedProcess:
    """Counts as running until it is told to end; it ends well, and at once."""

    def __init__(self) -> None:
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """See Process."""
        return await asyncio.shield(self._code)

    def exit(self, code: int) -> None:
        """End with this code."""
        if not self._code.done():
            self._code.set_result(code)

    def terminate(self) -> None:
        """See Process."""
        self.exit(0)

    def kill(self) -> None:
        """See Process."""
        self.exit(128 + signal.SIGKILL)
