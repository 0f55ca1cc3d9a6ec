"""How long each wait has lasted, by this process's own clock.

Clocks of the cluster differ, so no timestamp of an object is compared with ours; after a restart the waits are
counted anew. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vfio_ap.fleet.gate import WaitKey


class Patience:
    """Times the waits of each matrix's plan; ``overdue`` is called with a matrix when one has lasted too long."""

    def __init__(self, overdue: Callable[[str], None]) -> None:
        self._overdue = overdue
        self._since: dict[str, dict[WaitKey, float]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def waited(self, matrix: str) -> Mapping[WaitKey, float]:
        """Return the seconds that each wait of the last plan has lasted."""
        now = asyncio.get_running_loop().time()
        return {key: now - since for key, since in self._since.get(matrix, {}).items()}

    def keep(self, matrix: str, timed: frozenset[WaitKey], left: float | None) -> None:
        """Time these waits from now or since they began, and no others; look again in ``left`` seconds."""
        loop = asyncio.get_running_loop()
        known = self._since.pop(matrix, {})
        if timed:
            self._since[matrix] = {key: known.get(key, loop.time()) for key in timed}
        if timer := self._timers.pop(matrix, None):
            timer.cancel()
        if left is not None:
            self._timers[matrix] = loop.call_later(left, self._overdue, matrix)
