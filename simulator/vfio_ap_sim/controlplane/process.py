"""One server process: started in a group of its own, logged to a file, ended for certain.

Nothing here is bound to an event loop, so that a server started in one may be stopped in another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from . import die_with_parent
from .errors import NotReadyError, ProcessDiedError

TAIL = 12
"""Lines of a log that an error shows."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
POLL = 0.05
"""Seconds between two looks at a process or an endpoint."""


class Server:
    """A child process; ``command[0]`` is an absolute path, ``environ`` goes over this process's own."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        # What it talks to is on this machine: kube-apiserver would look for a webhook's Service behind a proxy.
        direct = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
        self._environ = {**direct, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process, unless it runs.

        The kernel ends it together with the calling *thread*: call this on one that stays, such as the main one.
        """
        if self.pid is not None:
            return
        wrapper = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
        with self.log.open("ab") as out:
            # A session of its own: Ctrl-C reaches us alone, and we end the servers in order.
            self._process = subprocess.Popen(
                [*wrapper, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environ,
                start_new_session=True,
            )

    async def ready(self, probe: Callable[[], Awaitable[str]], deadline: float) -> None:
        """Wait until ``probe`` returns an empty string; otherwise it returns what is still missing.

        ``deadline`` is in seconds. Raises ProcessDiedError and NotReadyError, both with the tail of the log.
        """
        missing = "it was not asked"
        try:
            async with asyncio.timeout(deadline):
                while True:
                    if self.pid is None:
                        code = self._process.returncode if self._process else "nothing: it was not started"
                        raise ProcessDiedError(self.name, f"ended with {code}{self._said()}", self._see())
                    if not (missing := await probe()):
                        return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise NotReadyError(
                self.name, f"not ready after {deadline:g} s: {missing}{self._said()}", self._see()
            ) from None

    async def stop(self, grace: float) -> None:
        """End the process: SIGTERM, ``grace`` seconds, SIGKILL; return when it is gone. May be called twice."""
        if self._process is None:
            return
        try:
            if self._process.poll() is None:
                self._process.terminate()
                await asyncio.to_thread(self._process.wait, grace)
        except subprocess.TimeoutExpired:
            pass  # it has had its grace
        finally:
            # Also when we are cancelled: nothing that we started outlives us.
            self.kill()

    def kill(self) -> None:
        """Kill the process group if its leader still runs, and reap the leader. May be called twice."""
        if self._process is None:
            return
        if self._process.poll() is None:  # once it is reaped its number may be another's
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _see(self) -> str:
        return (
            f"its log was {self.log}; a program that is damaged is got again once it is deleted: {self.command[0]}"
        )

    def _said(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        except OSError:
            lines = []
        return "; its log ends:\n  " + "\n  ".join(lines) if lines else "; its log is empty"
