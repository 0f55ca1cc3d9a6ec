"""How queues come to vfio_ap and go back, in either mode of a host: by masks or by driver_override. Pure.

The two are exclusive (K-15). Masks move whole adapters or domains and may be edited for ids that are not there
yet (K-2). An override moves one queue that exists, and moves it only once it is unbound and probed anew (K-16);
nothing leaves along with it, and nothing can be held in advance (K-18).

Which mode a host is in is read, not configured: one with an override is in that mode, one whose masks were edited
is in the other. Only a host that shows neither leaves a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.host.masks import HostMasks, edits
from vfio_ap.host.release import Release
from vfio_ap.host.view import GUEST_DRIVER, HOST_DRIVER, HostView, QueueView
from vfio_ap.host.wish import EditMask, Ours, Override, Probe, Step, Unbind
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

Preference = Literal["auto", "masks", "override"]
"""What a host that shows no mode is to use; ``auto`` is masks."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The steps before and after devices are configured."""

    before: tuple[Step, ...]
    """Queues come to vfio_ap."""
    after: tuple[Step, ...]
    """Queues go back to the host."""
    comes: Callable[[Apqn], bool]
    """Tells whether a queue that is not with vfio_ap will be, after ``before``."""
    release: Release | None = None


def settle(view: HostView, ours: Ours, preference: Preference) -> HostView:
    """Return the view with the mode that this host is handled in.

    An override that we are about to take back counts, although the kernel may show none any more.
    """
    control = view.kernel.queue_control
    if ours.overrides:
        control = "DriverOverride"
    elif control == "Masks" and view.masks.default() and preference == "override":
        control = "DriverOverride" if view.kernel.driver_override else "Unknown"
    return replace(view, kernel=replace(view.kernel, queue_control=control))


def by_masks(view: HostView, release: Release, targets: Iterable[Matrix]) -> Handover:
    """Return the edits that lead to the masks of a release: first what leaves the host, last what returns."""
    masks = release.masks
    between = HostMasks(view.masks.adapters & masks.adapters, view.masks.domains & masks.domains)

    def comes(apqn: Apqn) -> bool:
        return view.masks.reserves(apqn) and not masks.reserves(apqn) and apqn in view.queues

    before: list[Step] = [*_edits(view, view.masks, between), *_probes(view, list(targets))]
    return Handover(tuple(before), tuple(_edits(view, between, masks)), comes, release)


def _edits(view: HostView, old: HostMasks, new: HostMasks) -> list[EditMask]:
    steps = []
    for edit in edits(old, new):
        adapters = edit.file == "apmask"
        before, after = (old.adapters, new.adapters) if adapters else (old.domains, new.domains)
        changed = IdSet((before - after).bits | (after - before).bits)
        across = len(view.present.domains if adapters else view.present.adapters)
        here = len(changed & (view.present.adapters if adapters else view.present.domains))
        steps.append(EditMask(edit.file, edit.text, changed, bool(before - after), here * across))
    return steps


def _probes(view: HostView, targets: list[Matrix]) -> list[Probe]:
    """Return wanted queues that left the host but found no driver: they do not come to vfio_ap by themselves."""
    return [
        Probe(apqn)
        for apqn, queue in view.queues.items()
        if not queue.driver and not view.masks.reserves(apqn) and any(target.contains(apqn) for target in targets)
    ]


def by_overrides(view: HostView, ours: Ours, targets: Iterable[Matrix], stays: list[Matrix]) -> Handover:
    """Return the writes for each wanted queue that can come, and for each of ours that nobody holds any more."""
    wanted = {q: view.queues[q] for target in targets for q in target if q in view.queues}
    coming = {q: queue for q, queue in wanted.items() if queue.driver != GUEST_DRIVER and not _stuck(queue)}
    before: list[Step] = [
        Override(q, GUEST_DRIVER)
        for q, queue in wanted.items()
        if not _stuck(queue) and not queue.override and view.masks.reserves(q)
    ]
    for apqn, queue in coming.items():
        before += [Unbind(apqn, queue.driver)] if queue.driver else []
        before.append(Probe(apqn))
    after: list[Step] = []
    # What a device that is being removed holds cannot be read (V-35).
    idle = () if any(mdev.leaving for mdev in view.mdevs.values()) else sorted(ours.overrides)
    for apqn in idle:
        if apqn in view.queues and not any(matrix.contains(apqn) for matrix in stays):
            after += _back(apqn, view.queues[apqn])
    return Handover(tuple(before), tuple(after), coming.__contains__)


def _back(apqn: Apqn, queue: QueueView) -> list[Step]:
    """Unbind first: a queue with vfio_ap and without override would be the host's by the masks alone (K-17)."""
    steps: list[Step] = [Unbind(apqn, GUEST_DRIVER)] if queue.driver == GUEST_DRIVER else []
    steps += [Override(apqn, "")] if queue.override == GUEST_DRIVER else []
    return steps if queue.driver == HOST_DRIVER else [*steps, Probe(apqn, HOST_DRIVER)]


def _stuck(queue: QueueView) -> bool:
    """Tell whether somebody else decided about the queue."""
    return queue.override not in ("", GUEST_DRIVER) or queue.driver not in ("", HOST_DRIVER, GUEST_DRIVER)


def cannot_come(target: Matrix, view: HostView) -> Refusal | None:
    """Say which queue of a target no override brings to vfio_ap, or nothing."""
    for apqn in target:
        queue = view.queues.get(apqn)
        if queue is None:
            text = "does not exist, and a host with driver_override cannot hold a queue in advance"
            remedy = "leave it out until the machine gives it, or clear every driver_override and use masks"
            return Refusal("QueueAbsent", str(apqn), text, remedy)
        if _stuck(queue):
            text = f"has driver_override {queue.override or 'unset'} and is with {queue.driver or 'no driver'}"
            return Refusal("ForeignOverride", str(apqn), text, "whoever wrote that must give the queue up")
    return None
