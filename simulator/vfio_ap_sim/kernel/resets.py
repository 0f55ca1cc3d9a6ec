"""Queue resets: who waits how long, what the log says, and which queues do not come back (V-38, V-39)."""

from __future__ import annotations

from collections.abc import Iterable

from vfio_ap_sim.kernel.devices import Queue
from vfio_ap_sim.kernel.feeds import NOTICE, WARNING, KernelLog
from vfio_ap_sim.kernel.hardware import (
    BUSY,
    CHECKSTOPPED,
    DECONFIGURED,
    NORMAL,
    NOT_AVAILABLE,
    RESET_IN_PROGRESS,
    Hardware,
)
from vfio_ap_sim.kernel.profile import Profile
from vfio_ap_sim.kernel.tasks import Op, Scheduler

_TICK_MS = 20
_AT_ONCE = (DECONFIGURED, CHECKSTOPPED, NOT_AVAILABLE)
_NOT_YET = (RESET_IN_PROGRESS, BUSY)


class Resetter:
    """Resets queues of vfio_ap and waits for them."""

    def __init__(self, profile: Profile, clock: Scheduler, log: KernelLog, hardware: Hardware) -> None:
        self._profile = profile
        self._clock = clock
        self._log = log
        self._hardware = hardware
        self.failed: dict[int, int] = {}
        """By adapter, the domains whose last reset failed: no guest gets them until one succeeds (3.5)."""

    def reset(self, queues: Iterable[Queue]) -> Op[None]:
        """Reset queues at the same time and wait for the slowest (``vfio_ap_mdev_reset_queue``).

        A worker per queue looks every 20 ms whether it is done (``vfio_ap_ops.c:apq_reset_check``), without end
        while the queue says that it is busy. A queue that is deconfigured or checkstopped is done at once.
        """
        slow = [queue for queue in queues if self._begin(queue)]
        waited = 0
        while slow := [queue for queue in slow if waited * 1000 < self._hardware.reset_us or self._is_busy(queue)]:
            yield self._clock.sleep(_TICK_MS * 1000)
            waited += _TICK_MS
            for queue in slow if self._profile.polled_reset else ():
                if waited * 1000 < self._hardware.reset_us or self._is_busy(queue):
                    text = f"Waited {waited}ms for reset of queue {queue.name} (2, 0, 0)"
                    self._log.write_limited("apq_reset_check", NOTICE, text)

    def forget(self, queue: Queue) -> None:
        """Take a queue for good that was just probed."""
        if queue.card.id in self.failed:
            self.failed[queue.card.id] &= ~(1 << queue.domain)

    def _begin(self, queue: Queue) -> bool:
        """Send the reset; returns whether its end must be awaited."""
        queue.resets += 1
        self.forget(queue)
        code = self._hardware.tapq(queue.apqn).code
        if code == NORMAL or code in _NOT_YET:
            return True
        if code not in _AT_ONCE:
            self.failed[queue.card.id] = self.failed.get(queue.card.id, 0) | 1 << queue.domain
            self._log.write(WARNING, f"PQAP/ZAPQ for {queue.name} failed with invalid rc={code}")
        return False

    def _is_busy(self, queue: Queue) -> bool:
        return self._hardware.tapq(queue.apqn).code in _NOT_YET
