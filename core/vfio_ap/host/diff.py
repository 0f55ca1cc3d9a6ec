"""What changed on a host between two readings, for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vfio_ap.host.view import HostView
from vfio_ap.host.wish import Ours, Wish
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix


@dataclass(frozen=True, slots=True)
class HostChange:
    """One thing that is different."""

    kind: str
    """``MdevMade``, ``MdevRemoved``, ``MdevChanged`` (what it holds), ``MdevFiltered`` (what a guest gets of it),
    ``MdevUse``, ``Masks``, ``Adapter`` or ``Queues``."""
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


def changes(old: HostView, new: HostView) -> list[HostChange]:
    """Return what is different in the newer reading."""
    return [*_mdevs(old, new), *_masks(old, new), *_adapters(old, new), *_queues(old, new)]


def tampered(view: HostView, wish: Wish, ours: Ours) -> list[HostChange]:
    """Return which devices of ours hold something else than we last gave them.

    Without ``ap_config`` a configuration takes several writes; what lies between the old one and the wanted one
    may be our own, from a life that ended at one of them.
    """
    wanted = {mdev.uuid: mdev.matrix for mdev in wish.mdevs}
    found = []
    for uuid, told in ours.mdevs.items():
        mdev = view.mdevs.get(uuid)
        if mdev is None or told is None or mdev.matrix in (None, told):
            continue
        if view.kernel.ap_config or not _between(mdev.matrix or Matrix(), told, wanted.get(uuid, told)):
            text = f"holds {_holds(mdev.matrix)}, was given {_holds(told)}"
            found.append(HostChange("MdevChanged", uuid, text))
    return found


def _between(found: Matrix, one: Matrix, other: Matrix) -> bool:
    def within(ids: IdSet, first: IdSet, second: IdSet) -> bool:
        return first & second <= ids and ids <= first | second

    return (
        within(found.adapters, one.adapters, other.adapters)
        and within(found.domains, one.domains, other.domains)
        and within(found.control_domains, one.control_domains, other.control_domains)
    )


def _holds(matrix: Matrix | None) -> str:
    if matrix is None:
        return "unknown queues"
    return str(matrix) if len(matrix) else "no queues"


def _mdevs(old: HostView, new: HostView) -> list[HostChange]:
    found = []
    for uuid in sorted({*old.mdevs, *new.mdevs}):
        before, after = old.mdevs.get(uuid), new.mdevs.get(uuid)
        if after is None:
            found.append(HostChange("MdevRemoved", uuid, "is gone"))
        elif before is None:
            found.append(HostChange("MdevMade", uuid, f"is there, with {_holds(after.matrix)}"))
        else:
            if before.matrix != after.matrix:
                text = f"holds {_holds(after.matrix)}, held {_holds(before.matrix)}"
                found.append(HostChange("MdevChanged", uuid, text))
            if before.guest != after.guest:
                text = f"gives guests {_holds(after.guest)}, gave {_holds(before.guest)}"
                found.append(HostChange("MdevFiltered", uuid, text))
            if before.in_use != after.in_use:
                text = f"is in use by {after.user}" if after.in_use else "is not in use any more"
                found.append(HostChange("MdevUse", uuid, text))
    return found


def _masks(old: HostView, new: HostView) -> list[HostChange]:
    found = []
    for file, before, after in (
        ("apmask", old.masks.adapters, new.masks.adapters),
        ("aqmask", old.masks.domains, new.masks.domains),
    ):
        if released := before - after:
            found.append(HostChange("Masks", file, f"{released} left the host"))
        if returned := after - before:
            found.append(HostChange("Masks", file, f"{returned} came back to the host"))
    return found


def _adapters(old: HostView, new: HostView) -> list[HostChange]:
    found = []
    for number in sorted({*old.adapters, *new.adapters}):
        before, after = old.adapters.get(number), new.adapters.get(number)
        if before is None or after is None:
            found.append(HostChange("Adapter", f"adapter {number}", "appeared" if after else "went away"))
        elif (before.state, before.type) != (after.state, after.type):
            text = f"is {after.type} {after.state}, was {before.type} {before.state}"
            found.append(HostChange("Adapter", f"adapter {number}", text))
    return found


def _queues(old: HostView, new: HostView) -> list[HostChange]:
    """Group queues that went from one driver to another by adapter."""
    moved: dict[tuple[int, str], int] = {}
    for apqn, queue in new.queues.items():
        before = old.queues.get(apqn)
        if before is None or before.driver != queue.driver:
            text = f"with {queue.driver or 'no driver'} now"
            moved[apqn.adapter, text] = moved.get((apqn.adapter, text), 0) | 1 << apqn.domain
    return [
        HostChange("Queues", f"adapter {adapter}", f"domains {IdSet(bits)} are {text}")
        for (adapter, text), bits in sorted(moved.items())
    ]
