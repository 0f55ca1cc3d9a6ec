"""``HostOps`` over expendable workers or a unix socket, with deadlines that hold whatever the kernel does.

Each lane (reads; writes; each ``remove``) has a connection of its own, so that a write that waits for queue
resets (V-38) does not hold up reading. A lane that misses its deadline is dropped and made anew. Its worker is
killed; one that cannot die, because a write waits uninterruptibly (V-34), is left behind and counted. No further
write is sent while such a one may still take effect; a ``remove`` concerns its own device alone, and that device
shows what became of it (V-35).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_ap.host.ops import Op, Result, Write
from vfio_ap_agent.host.wire import Connection

_LOG = logging.getLogger(__name__)
_WORKER = Path(__file__).with_name("worker.py")
_GRACE = 0.5
"""Seconds that a killed worker has to die before it counts as stuck."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """An operation that missed its deadline and may still be waiting in the kernel."""

    path: str
    seconds: float
    writing: bool

    @property
    def blocks_writes(self) -> bool:
        """Whether it is not safe to write anything else before it has come back."""
        return self.writing and not self.path.endswith("/remove")


class StuckWriteError(ConnectionError):
    """A write was not sent because an earlier one has not come back from the kernel."""


class Lane:
    """One connection and what is behind it."""

    def __init__(self, connection: Connection, process: asyncio.subprocess.Process | None = None) -> None:
        self.connection = connection
        self._process = process

    async def end(self) -> bool:
        """Drop the connection and kill the worker; return whether it is known to be gone."""
        self.connection.close()
        if self._process is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def gone(self) -> None:
        """Return once the worker has ended."""
        if self._process is not None:
            await self._process.wait()


Opener = Callable[[], Awaitable[Lane]]


def worker_lane(root: str = "") -> Opener:
    """Return what starts a worker on the real file system; ``root`` stands for /sys when it is given."""

    async def start() -> Lane:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_WORKER),
            *([root] if root else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            start_new_session=True,  # a Ctrl-C at a terminal must not cut a write short
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return Lane(Connection(process.stdout, process.stdin), process)

    return start


def socket_lane(path: str) -> Opener:
    """Return what opens a connection to a socket that speaks the wire form."""

    async def connect() -> Lane:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        return Lane(Connection(reader, writer))

    return connect


class LanedHost:
    """The host, in lanes. Implements ``HostOps``."""

    def __init__(self, opener: Opener) -> None:
        self._open = opener
        self._lanes: dict[str, Lane] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._left: dict[asyncio.Task[None], Stuck] = {}
        self.last_stuck: Stuck | None = None
        """The latest operation that missed its deadline, None once anything of its lane has succeeded since."""

    @property
    def left_behind(self) -> list[Stuck]:
        """Operations whose worker would not die."""
        return list(self._left.values())

    async def run(self, ops: Sequence[Op], *, deadline: float) -> list[Result]:
        """Carry out the operations in order, within ``deadline`` seconds.

        Raises TimeoutError when the deadline passes, ConnectionError when the host cannot be reached, and
        StuckWriteError for a write while an earlier one hangs.
        """
        if not ops:
            return []
        writes = [op for op in ops if isinstance(op, Write)]
        if writes and (stuck := next((s for s in self._left.values() if s.blocks_writes), None)):
            raise StuckWriteError(f"a write to {stuck.path} has not come back from the kernel")
        name = _lane_of(writes)
        first = writes[0].path if writes else ops[0].path
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                async with asyncio.timeout(deadline):
                    results = await self._exchange(name, ops)
            except TimeoutError:
                await self._abandon(name, Stuck(first, deadline, bool(writes)))
                raise
            except asyncio.CancelledError:
                await self._drop(name)
                raise
            finally:
                if name not in ("read", "write"):
                    await self._drop(name)
                    self._locks.pop(name, None)
        if self.last_stuck is not None and self.last_stuck.writing == bool(writes):
            self.last_stuck = None
        return results

    async def _exchange(self, name: str, ops: Sequence[Op]) -> list[Result]:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = await self._open()
        try:
            return await lane.connection.exchange(ops)
        except (ConnectionError, OSError):
            await self._drop(name)
            raise

    async def _abandon(self, name: str, stuck: Stuck) -> None:
        """Drop a lane that missed its deadline; keep count of it while it lives."""
        self.last_stuck = stuck
        lane = self._lanes.pop(name, None)
        if lane is None or await lane.end():
            return
        _LOG.error(
            "%s does not come back from the kernel after %.0f s; its worker is left behind",
            stuck.path,
            stuck.seconds,
        )
        task = asyncio.ensure_future(lane.gone())
        self._left[task] = stuck
        task.add_done_callback(lambda done: self._left.pop(done, None))

    async def _drop(self, name: str) -> None:
        if lane := self._lanes.pop(name, None):
            await lane.end()

    async def close(self) -> None:
        """End all lanes; what hangs in the kernel is left to it."""
        for name in list(self._lanes):
            await self._drop(name)
        for task in list(self._left):
            task.cancel()


def _lane_of(writes: Sequence[Write]) -> str:
    removes = [op.path for op in writes if op.path.endswith("/remove")]
    return removes[0] if removes else "write" if writes else "read"


def open_host(where: str) -> LanedHost:
    """Return the host that ``--sysfs`` names: empty for the real one, ``unix:PATH``, or a directory."""
    if where.startswith("unix:"):
        return LanedHost(socket_lane(where.removeprefix("unix:")))
    return LanedHost(worker_lane(where))
