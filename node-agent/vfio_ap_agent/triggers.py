"""When to look at the host again: at once after something happened, and every so often anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from vfio_ap.host.ops import Uevent

QUIET = 0.25
"""Seconds without a further trigger before one is acted upon: a mask write sends hundreds of uevents."""
LONGEST = 2.0
"""Seconds after which a storm of triggers is acted upon anyway."""
AFTER_FAILURE = 5.0
"""Seconds until the next look after one that failed."""


class Triggers:
    """Reasons to look, debounced."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._event = asyncio.Event()
        self._reasons: set[str] = set()

    def pull(self, reason: str) -> None:
        """Say that there is a reason to look."""
        self._reasons.add(reason)
        self._event.set()

    async def wait(self, *, soon: bool = False) -> set[str]:
        """Return the reasons once things are quiet, ``period`` among them when nothing happened for that long.

        ``soon`` shortens the period, after a failure.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(self._period, AFTER_FAILURE) if soon else self._period):
                await self._event.wait()
        except TimeoutError:
            self._reasons.add("period")
        end = loop.time() + LONGEST
        while self._event.is_set() and loop.time() < end:
            self._event.clear()
            await asyncio.sleep(QUIET)
        self._event.clear()
        reasons, self._reasons = self._reasons, set()
        return reasons

    async def follow(self, events: AsyncIterator[Uevent], seen: Callable[[Uevent], None] | None = None) -> None:
        """Take every uevent as a reason, until there are no more."""
        async for event in events:
            if seen is not None:
                seen(event)
            self.pull("uevent")
