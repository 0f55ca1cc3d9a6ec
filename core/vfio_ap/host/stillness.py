"""What a move in flight holds still: its devices, and the mask bits of their queues. Pure.

A queue of a frozen device is one that it holds or is to hold. While it is frozen none of them changes hands, in
either direction, and no mask bit of them is given back. Everything else goes on: moves must not block each other's
preparation.
"""

from __future__ import annotations

from dataclasses import dataclass

from vfio_ap.host.masks import HostMasks
from vfio_ap.host.view import HostView
from vfio_ap.host.wish import Wish
from vfio_ap.matrix import Apqn, Matrix


@dataclass(frozen=True, slots=True)
class Stillness:
    """The queues of frozen devices."""

    devices: tuple[tuple[str, Matrix], ...] = ()
    """UUID and queues; a device that holds something else than it is to hold is there twice."""

    @property
    def queues(self) -> list[Matrix]:
        """Return them all."""
        return [matrix for _, matrix in self.devices]

    def meets(self, target: Matrix) -> tuple[Apqn, str] | None:
        """Return the first queue of a target that is held still, and the device on whose account."""
        for uuid, matrix in self.devices:
            if common := target.overlap(matrix):
                return common.first(), uuid
        return None

    def loose(self, view: HostView) -> tuple[Apqn, str] | None:
        """Return a queue without a driver that any edit of a mask would bind, and the device on whose account.

        The kernel looks at every queue then, and probes those whose driver is not what the masks say
        (ap_bus.c: ap_bus_revise_bindings).
        """
        for uuid, matrix in self.devices:
            for apqn in matrix:
                queue = view.queues.get(apqn)
                if queue is not None and not queue.driver and not view.masks.reserves(apqn):
                    return apqn, uuid
        return None

    def with_host(self, masks: HostMasks) -> list[Matrix]:
        """Return those that are the host's by the masks, and must stay so."""
        return [Matrix(m.adapters & masks.adapters, m.domains & masks.domains) for m in self.queues]

    def released(self, masks: HostMasks) -> list[Matrix]:
        """Return those that are not, and must stay so."""
        by_row = [Matrix(m.adapters - masks.adapters, m.domains) for m in self.queues]
        return by_row + [Matrix(m.adapters, m.domains - masks.domains) for m in self.queues]


def stillness(view: HostView, wish: Wish) -> Stillness:
    """Return what the frozen devices of a wish hold still on this host."""
    found = []
    for wanted in wish.mdevs:
        if wanted.frozen:
            mdev = view.mdevs.get(wanted.uuid)
            held = {wanted.matrix, mdev.matrix or Matrix() if mdev else Matrix()}
            found += [(wanted.uuid, Matrix(m.adapters, m.domains)) for m in held if len(m)]
    return Stillness(tuple(sorted(found, key=lambda item: (item[0], str(item[1])))))
