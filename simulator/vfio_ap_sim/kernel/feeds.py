"""What the kernel says on its own account: uevents and the kernel log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from vfio_ap.host.ops import KernelLine, Uevent
from vfio_ap_sim.kernel.tasks import Scheduler

T = TypeVar("T")
_KEPT = 4096
_BURST, _INTERVAL = 10, 5_000_000
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6


class Feed(Generic[T]):
    """Items in order, given to every subscriber; the latest are kept for reading."""

    def __init__(self) -> None:
        self.history: deque[T] = deque(maxlen=_KEPT)
        self._subscribers: list[Callable[[T], None]] = []

    def publish(self, item: T) -> None:
        """Give an item to every subscriber."""
        self.history.append(item)
        for subscriber in tuple(self._subscribers):
            subscriber(item)

    def subscribe(self, subscriber: Callable[[T], None]) -> Callable[[], None]:
        """Hand every further item to ``subscriber``; returns what ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)


class KernelLog(Feed[KernelLine]):
    """printk."""

    def __init__(self, clock: Scheduler) -> None:
        super().__init__()
        self._clock = clock
        self._sequence = 0
        self._limits: dict[tuple[str, str], tuple[int, int, int]] = {}

    def write(self, priority: int, text: str) -> None:
        """Log one line."""
        self.publish(KernelLine(priority, self._sequence, self._clock.now, text))
        self._sequence += 1

    def write_limited(self, function: str, priority: int, text: str, *, site: str = "") -> None:
        """Log one line unless its call site has logged ten within five seconds (``lib/ratelimit.c``).

        What was kept back is counted and told with the function's name at the first line after the interval.
        ``site`` tells call sites of one function apart.
        """
        place = function, site
        begin, printed, missed = self._limits.get(place, (self._clock.now, 0, 0))
        if self._clock.now - begin > _INTERVAL:
            if missed:
                self.write(WARNING, f"{function}: {missed} callbacks suppressed")
            begin, printed, missed = self._clock.now, 0, 0
        if printed < _BURST:
            self._limits[place] = (begin, printed + 1, missed)
            self.write(priority, text)
        else:
            self._limits[place] = (begin, printed, missed + 1)


class Uevents(Feed[Uevent]):
    """kobject_uevent."""

    def __init__(self) -> None:
        super().__init__()
        self._sequence = 1000

    def send(self, action: str, path: str, subsystem: str, *variables: dict[str, str]) -> None:
        """Send one uevent; variables come in the kernel's order: its caller's, then the device's own."""
        self._sequence += 1
        merged = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": subsystem}
        for group in variables:
            merged |= group
        merged["SEQNUM"] = str(self._sequence)
        self.publish(Uevent(merged))
