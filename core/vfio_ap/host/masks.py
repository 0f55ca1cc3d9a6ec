"""The host masks and the edits the agent makes to them.

A queue belongs to the host iff its adapter is in ``apmask`` and its domain is in ``aqmask`` (kernel-ap.md K-1).
The agent writes relative edits only: an absolute mask that is short, split or empty releases the whole machine
(K-5, K-6, hazard 1). What a mask should be is decided in ``release``.
"""

from __future__ import annotations

from dataclasses import dataclass

from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn


@dataclass(frozen=True, slots=True)
class HostMasks:
    """The two masks; all ones, as here by default, leaves every queue with the host."""

    adapters: IdSet = IdSet.every()
    domains: IdSet = IdSet.every()

    def reserves(self, apqn: Apqn) -> bool:
        """Tell whether the queue is the host's."""
        return apqn.adapter in self.adapters and apqn.domain in self.domains

    def default(self) -> bool:
        """Tell whether both masks are all ones, the only state in which driver_override works (K-15)."""
        return self == HostMasks()


@dataclass(frozen=True, slots=True)
class MaskEdit:
    """One write to one mask file."""

    file: str
    """``apmask`` or ``aqmask``."""
    text: str
    """Relative edit such as ``-5,-6``; without a newline."""


def relative_edit(current: IdSet, wanted: IdSet) -> str:
    """Return the relative edit that turns one mask into the other, empty when they are equal (K-4)."""
    changes = [(number, "-") for number in current - wanted] + [(number, "+") for number in wanted - current]
    return ",".join(f"{sign}{number}" for number, sign in sorted(changes))


def edits(current: HostMasks, wanted: HostMasks) -> list[MaskEdit]:
    """Return the writes that lead from one pair of masks to the other, bits taken from the host first.

    Clearing bits never fails with EBUSY (K-7), so what is released is released before anything is taken back.
    """
    result: list[MaskEdit] = []
    for released in (True, False):
        for file, old, new in (
            ("apmask", current.adapters, wanted.adapters),
            ("aqmask", current.domains, wanted.domains),
        ):
            base, goal = (old, old & new) if released else (old & new, new)
            if text := relative_edit(base, goal):
                result.append(MaskEdit(file, text))
    return result
