"""A modelled kernel as a host in the same process: what the agent's code sees, without socket or worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from vfio_ap.host.ops import KernelLine, Op, Result, Uevent
from vfio_ap_sim.kernel.feeds import Feed
from vfio_ap_sim.kernel.kernel import Kernel
from vfio_ap_sim.kernel.tasks import Task

T = TypeVar("T")


async def finished(task: Task[T]) -> T:
    """Wait for a task and return its result. Raises SysfsError as the operation did.

    Whoever is cancelled while waiting leaves as a killed process does: with a signal to the task.
    """
    if not task.done:
        done = asyncio.Event()
        task.on_done(done.set)
        try:
            await done.wait()
        except asyncio.CancelledError:
            task.signal()
            raise
    return task.result()


class InProcessHost:
    """``vfio_ap.host.ops.HostOps`` on a model. The model's clock is advanced by whoever owns it."""

    def __init__(self, kernel: Kernel, *, comm: str = "agent", pid: int = 4711) -> None:
        self.kernel = kernel
        self._comm = comm
        self._pid = pid

    async def run(self, ops: Sequence[Op], *, deadline: float) -> list[Result]:
        """Carry out operations in order. Raises TimeoutError when they take over ``deadline`` seconds."""
        results = []
        async with asyncio.timeout(deadline):
            for op in ops:
                results.append(await finished(self.kernel.submit(op, comm=self._comm, pid=self._pid)))
        return results

    def subscribe_uevents(self) -> AsyncIterator[Uevent]:
        """Return the uevents from now on."""
        return follow(self.kernel.uevents)

    def subscribe_kmsg(self) -> AsyncIterator[KernelLine]:
        """Return the kernel log lines from now on."""
        return follow(self.kernel.log)


def follow(feed: Feed[T]) -> AsyncIterator[T]:
    """Return the items of a feed from this moment on; nothing is lost between call and first use."""
    queue: asyncio.Queue[T] = asyncio.Queue()
    end = feed.subscribe(queue.put_nowait)

    async def items() -> AsyncIterator[T]:
        try:
            while True:
                yield await queue.get()
        finally:
            end()

    return items()
