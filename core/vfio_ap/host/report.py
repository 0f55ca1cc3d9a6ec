"""What became of each wanted device, judged by what was read back. Pure.

``Ready`` is said only of a device whose configuration equals the wanted one and whose every queue that the
machine gives this host is in the guest matrix. Ids that the machine does not give (over-provisioning, K-2) do not
count against it; they are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.host import whynot
from vfio_ap.host.view import GUEST_DRIVER, HostView, MdevView
from vfio_ap.host.wish import HostPlan, Ours, WantedMdev, Wish
from vfio_ap.matrix import Apqn, Matrix

State = Literal["Ready", "Incomplete", "Pending", "Failed", "Leaving", "Foreign"]


@dataclass(frozen=True, slots=True)
class MdevReport:
    """One device, wanted or found."""

    uuid: str
    name: str
    """Name of its matrix, empty when it is not wanted."""
    state: State
    matrix: Matrix
    """What the kernel holds; what is wanted while there is no device."""
    guest: Matrix = Matrix()
    in_use: bool = False
    group: str = ""
    migratable: bool | None = None
    note: Refusal | None = None
    """Why it is not Ready, or what is to know although it is."""


def report(view: HostView, wish: Wish, ours: Ours, plan: HostPlan) -> tuple[MdevReport, ...]:
    """Return one report per device that is wanted or exists: wanted ones first, in their order."""
    reports = []
    for wanted in wish.mdevs:
        mdev = view.mdevs.get(wanted.uuid)
        known = wanted.uuid in ours.mdevs
        state, note = _judge(view, mdev, wanted.matrix, plan, wanted.uuid, known)
        reports.append(_report(wanted.uuid, wanted.name, state, note, mdev, wanted.matrix))
    seen = {wanted.uuid for wanted in wish.mdevs}
    for uuid, refusal in wish.refused.items():
        if uuid not in seen:
            seen.add(uuid)
            name = wish.refused_names.get(uuid, "")
            reports.append(_report(uuid, name, "Failed", refusal, view.mdevs.get(uuid), Matrix()))
    for uuid, mdev in view.mdevs.items():
        if uuid not in seen:
            leaves = uuid in ours.mdevs
            note = plan.refusals.get(uuid) if leaves or mdev.leaving else None
            reports.append(_report(uuid, "", "Leaving" if leaves else "Foreign", note, mdev, Matrix()))
    return tuple(reports)


def recorded(view: HostView, ours: Ours) -> tuple[MdevReport, ...]:
    """Return one report per device that exists, ours judged by what we last gave them: no wish is at hand."""
    mine = {uuid: told for uuid, told in ours.mdevs.items() if uuid in view.mdevs}
    wanted = [WantedMdev(uuid, ours.names.get(uuid, ""), told or Matrix()) for uuid, told in mine.items()]
    changed = {
        uuid: Refusal("ForeignChange", uuid, f"was given {told} and was changed by somebody else")
        for uuid, told in mine.items()
        if told is not None and view.mdevs[uuid].matrix not in (told, None)
    }
    return report(view, Wish(tuple(wanted)), ours, HostPlan(refusals=changed))


def _report(
    uuid: str, name: str, state: State, note: Refusal | None, mdev: MdevView | None, wanted: Matrix
) -> MdevReport:
    if mdev is None:
        return MdevReport(uuid, name, state, wanted, note=note)
    guest = mdev.guest or Matrix()
    held = mdev.matrix or Matrix()
    return MdevReport(uuid, name, state, held, guest, mdev.in_use, mdev.group, mdev.migratable, note)


def _judge(
    view: HostView, mdev: MdevView | None, target: Matrix, plan: HostPlan, uuid: str, known: bool
) -> tuple[State, Refusal | None]:
    refusal = plan.refusals.get(uuid)
    if mdev is None or not known or mdev.matrix != target:
        if refusal is None or refusal.reason == whynot.FROZEN:
            return "Pending", refusal or Refusal("Pending", uuid, "is not made yet")
        return "Failed", refusal
    if mdev.guest is None:
        return "Incomplete", Refusal("GuestMatrixUnknown", uuid, "what a guest would get cannot be read safely")
    if lacking := _lacking(view, mdev, target):
        return "Incomplete", lacking
    here = Matrix(target.adapters & view.present.adapters, target.domains & view.present.domains)
    if not len(here):
        remedy = "give the LPAR its adapters and domains, or exclude the node by spec.nodeSelector"
        return "Incomplete", Refusal("NothingPresent", uuid, "none of its queues is on this host", remedy)
    absent = []
    if extra := target.adapters - here.adapters:
        absent.append(f"adapters {extra}")
    if extra := target.domains - here.domains:
        absent.append(f"domains {extra}")
    if absent:
        over = Refusal("OverProvisioned", uuid, f"{' and '.join(absent)} are not on this host yet")
        return "Ready", refusal or over
    return "Ready", refusal


def _lacking(view: HostView, mdev: MdevView, target: Matrix) -> Refusal | None:
    """Name the first queue that a guest should get and does not, and why (3.5)."""
    assert mdev.guest is not None
    for adapter in target.adapters & view.present.adapters:
        for domain in target.domains & view.present.domains:
            apqn = Apqn(adapter, domain)
            if mdev.guest.contains(apqn):
                continue
            return Refusal(
                "Filtered",
                str(apqn),
                f"adapter {adapter} is kept from guests: {_cause(view, mdev, target, adapter)}",
                "give every queue of the adapter in this matrix to vfio_ap",
            )
    return None


def _cause(view: HostView, mdev: MdevView, target: Matrix, adapter: int) -> str:
    for domain in target.domains & view.present.domains:
        apqn = Apqn(adapter, domain)
        queue = view.queues.get(apqn)
        if queue is None:
            return f"queue {apqn} does not exist"
        if queue.driver != GUEST_DRIVER:
            return f"queue {apqn} is with {queue.driver or 'no driver'}"
    return "the kernel has not looked at it again since, or a reset of its queues failed"
