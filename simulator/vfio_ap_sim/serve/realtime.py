"""Drives a model's clock by the wall: what falls due in the model happens when it does in the world."""

from __future__ import annotations

import asyncio

from vfio_ap_sim.kernel import Kernel

_SECOND = 1_000_000


class RealTime:
    """Keeps one kernel's clock in step with the event loop's."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._begin = asyncio.get_running_loop().time() - kernel.seconds
        self._sooner = asyncio.Event()

    def sync(self) -> None:
        """Bring the model's clock up to now; call it before anything is asked of the model."""
        now = asyncio.get_running_loop().time() - self._begin
        self._kernel.clock.advance_to(round(now * _SECOND))
        self._sooner.set()

    async def run(self) -> None:
        """Advance the clock for ever."""
        while True:
            self.sync()
            self._sooner.clear()
            due = self._kernel.clock.next_due
            wait = None if due is None else max(0.0, (due - self._kernel.clock.now) / _SECOND)
            try:
                async with asyncio.timeout(wait):
                    await self._sooner.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0)
