"""Queue resets: who waits how long, and what the log says meanwhile (V-38, V-39)."""

from __future__ import annotations

from collections.abc import Iterable

from vfio_ap_sim.kernel.devices import Queue
from vfio_ap_sim.kernel.feeds import NOTICE, KernelLog
from vfio_ap_sim.kernel.hardware import Hardware
from vfio_ap_sim.kernel.profile import Profile
from vfio_ap_sim.kernel.tasks import Op, Scheduler

_TICK_MS = 20


class Resetter:
    """Resets queues of vfio_ap and waits for them."""

    def __init__(self, profile: Profile, clock: Scheduler, log: KernelLog, hardware: Hardware) -> None:
        self._profile = profile
        self._clock = clock
        self._log = log
        self._hardware = hardware

    def reset(self, queues: Iterable[Queue]) -> Op[None]:
        """Reset queues at the same time and wait for the slowest.

        A worker per queue looks every 20 ms whether it is done (``vfio_ap_ops.c:apq_reset_check``). A queue that
        is deconfigured or checkstopped is done at once.
        """
        slow = []
        for queue in queues:
            queue.resets += 1
            if self._hardware.works(queue.card.id, queue.domain):
                slow.append(queue)
        waited = 0
        while slow and waited * 1000 < self._hardware.reset_us:
            yield self._clock.sleep(_TICK_MS * 1000)
            waited += _TICK_MS
            if self._profile.polled_reset and waited * 1000 < self._hardware.reset_us:
                for queue in slow:
                    text = f"Waited {waited}ms for reset of queue {queue.name} (2, 0, 0)"
                    self._log.write_limited("apq_reset_check", NOTICE, text)
