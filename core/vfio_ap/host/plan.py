"""From a host as it is and a host as it shall be to an ordered list of steps, and refusals. Pure.

The order is: remove, have queues leave the host, create and configure, give queues back. Every write is legal at
the moment of its turn and none touches what is not ours. A plan covers one round: whoever applies it reads the
host again and plans again until nothing is left to do, so that a step whose safety depends on what an earlier one
really did (a queue that must be with vfio_ap before a running guest's matrix grows over it) waits for the proof.

Refusing one device never blocks another, except where what it holds is what the other wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.host import whynot
from vfio_ap.host.handover import Handover, by_masks, by_overrides, cannot_come
from vfio_ap.host.inuse import refuse_change_in_use, unbound_under_guest
from vfio_ap.host.occupancy import Occupancy
from vfio_ap.host.release import Release, ReleaseProblem, plan_release
from vfio_ap.host.stillness import Stillness, stillness
from vfio_ap.host.view import GUEST_DRIVER, HostView
from vfio_ap.host.wish import (
    Adopt,
    Assign,
    Configure,
    Create,
    EditMask,
    HostPlan,
    Ours,
    Refilter,
    Remove,
    SetMigratable,
    Step,
    Wish,
)
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix


def plan_host(view: HostView, wish: Wish, ours: Ours, set_aside: Mapping[str, Refusal] | None = None) -> HostPlan:
    """Return the next steps towards the wish.

    ``set_aside`` holds, by UUID, what has failed in this pass already: such devices are left as they are.
    """
    failed = set_aside or {}
    refusals: dict[str, Refusal] = {**wish.refused, **failed}
    if closed := _closed(view):
        every = {wanted.uuid: closed for wanted in wish.mdevs}
        leaving = {uuid: closed for uuid in ours.mdevs if uuid in view.mdevs}
        return HostPlan(refusals={**leaving, **every, **refusals})
    while True:
        attempt = _Attempt(view, wish, ours, dict(refusals), stillness(view, wish))
        result = attempt.run()
        if attempt.refusals.keys() == refusals.keys():
            off, on = _switches(view, wish, ours, failed)
            return replace(result, steps=(*off, *result.steps, *on))
        refusals = attempt.refusals


def _closed(view: HostView) -> Refusal | None:
    """Return why nothing at all may be changed on this host now, if so."""
    if not view.kernel.vfio_ap:
        return Refusal("DriverNotLoaded", "vfio_ap", "is not loaded", "modprobe vfio_ap")
    for mdev in view.mdevs.values():
        if mdev.matrix is None and not mdev.leaving:
            return whynot.unreadable(mdev)
    if view.kernel.queue_control == "Unknown":
        text = "driver_override is to be used on this host, and its kernel has none"
        return Refusal("QueueControlUnknown", "AP bus", text, "use masks: --queue-control masks")
    return None


def _switches(
    view: HostView, wish: Wish, ours: Ours, failed: Mapping[str, Refusal]
) -> tuple[list[SetMigratable], list[SetMigratable]]:
    """Return which devices' ``migratable`` is cleared, before anything else, and which is set, after it.

    Freezing holds neither back: it is set within a move. It is set only on a device that holds what is wanted.
    """
    off, on = [], []
    for wanted in wish.mdevs:
        mdev = view.mdevs.get(wanted.uuid)
        if mdev is None or mdev.migratable is None or wanted.uuid not in ours.mdevs or wanted.uuid in failed:
            continue
        if mdev.migratable and not wanted.migratable:
            off.append(SetMigratable(wanted.uuid, False))
        elif wanted.migratable and not mdev.migratable and mdev.matrix == wanted.matrix:
            on.append(SetMigratable(wanted.uuid, True))
    return off, on


@dataclass(slots=True)
class _Attempt:
    """One try at a plan with a given set of refusals; finds more of them, or the plan."""

    view: HostView
    wish: Wish
    ours: Ours
    refusals: dict[str, Refusal]
    still: Stillness

    def run(self) -> HostPlan:
        """Return the plan that holds if no refusal was added."""
        standing, targets, adopted, removed = self._classify()
        self._check_targets(standing, targets)
        by_override = self.view.kernel.queue_control == "DriverOverride"
        handover = self._overrides(standing, targets) if by_override else self._masks(standing, targets)
        if handover is None:
            return HostPlan(refusals=self.refusals)
        waiting = self._check_guests(targets, handover)
        steps: list[Step] = [*adopted, *(Remove(uuid) for uuid in removed), *handover.before]
        steps += self._configurations(standing, targets, waiting)
        steps += self._refilters(targets)
        steps += handover.after
        return HostPlan(tuple(steps), self.refusals, frozenset(waiting), handover.release)

    def _classify(self) -> tuple[dict[str, Matrix], dict[str, Matrix], list[Adopt], list[str]]:
        """Split devices into those that stay as they are, those to bring to a target, and those to remove."""
        wants = {wanted.uuid: wanted for wanted in self.wish.mdevs}
        standing: dict[str, Matrix] = {}
        adopted: list[Adopt] = []
        removed: list[str] = []
        for uuid, mdev in self.view.mdevs.items():
            wanted = wants.get(uuid)
            if mdev.matrix is None:
                standing[uuid] = self.ours.mdevs.get(uuid) or Matrix()
                self._refuse(uuid, Refusal("Leaving", uuid, "is being removed", f"waits for {mdev.user}"))
            elif uuid in self.refusals or (wanted.frozen if wanted else uuid not in self.ours.mdevs):
                standing[uuid] = mdev.matrix
            elif wanted is None:
                if self.wish.incomplete:
                    standing[uuid] = mdev.matrix
                    self._refuse(uuid, self.wish.incomplete)
                elif mdev.proven_idle:
                    removed.append(uuid)
                else:
                    standing[uuid] = mdev.matrix
                    self._refuse(uuid, whynot.in_use(mdev))
            elif uuid not in self.ours.mdevs:
                if refusal := whynot.cannot_adopt(wanted, mdev.matrix):
                    self._refuse(uuid, refusal)
                else:
                    adopted.append(Adopt(uuid, mdev.matrix))
        targets: dict[str, Matrix] = {}
        for wanted in self.wish.mdevs:
            there = self.view.mdevs.get(wanted.uuid)
            if wanted.frozen and (there is None or there.matrix != wanted.matrix):
                self._refuse(wanted.uuid, whynot.frozen(wanted.uuid))
            elif not wanted.frozen and wanted.uuid not in self.refusals:
                targets[wanted.uuid] = wanted.matrix
        return standing, dict(sorted(targets.items(), key=lambda t: t[0] not in self.view.mdevs)), adopted, removed

    def _check_targets(self, standing: dict[str, Matrix], targets: dict[str, Matrix]) -> None:
        taken = Occupancy(standing)
        for uuid, target in targets.items():
            refusal = whynot.out_of_range(uuid, target, self.view) or self._taken(uuid, target, taken)
            for reserved in self.wish.reserved:
                if common := target.overlap(reserved):
                    refusal = whynot.reserved(common.first())
            if refusal is None and (held := self.still.meets(target)):
                refusal = whynot.held_still(*held)
            mdev = self.view.mdevs.get(uuid)
            if refusal is None and mdev is not None and mdev.matrix != target and mdev.in_use:
                refusal = refuse_change_in_use(mdev, target, self.ours.mdevs.get(uuid))
            if refusal is None:
                taken.put(uuid, target)
            else:
                self._refuse(uuid, refusal)

    def _taken(self, uuid: str, target: Matrix, taken: Occupancy) -> Refusal | None:
        hit = taken.conflict(uuid, target)
        if hit is None:
            return None
        other, apqn = hit
        mine = other in self.ours.mdevs or any(wanted.uuid == other for wanted in self.wish.mdevs)
        return whynot.taken(apqn, other, foreign=not mine)

    def _held(self, standing: dict[str, Matrix], targets: dict[str, Matrix]) -> list[Matrix]:
        """Return what any device holds now or will hold."""
        now = [self.view.mdevs[uuid].matrix or Matrix() for uuid in targets if uuid in self.view.mdevs]
        return [*standing.values(), *targets.values(), *now]

    def _overrides(self, standing: dict[str, Matrix], targets: dict[str, Matrix]) -> Handover | None:
        """Return how single queues change hands; None where more is refused now."""
        known = len(self.refusals)
        for uuid, target in targets.items():
            mdev = self.view.mdevs.get(uuid)
            if (mdev is None or mdev.matrix != target) and (refusal := cannot_come(target, self.view)):
                self._refuse(uuid, refusal)
        if len(self.refusals) > known:
            return None
        stays = [*self._held(standing, targets), *self.still.queues]
        return by_overrides(self.view, self.ours, targets.values(), stays)

    def _masks(self, standing: dict[str, Matrix], targets: dict[str, Matrix]) -> Handover | None:
        """Return how whole adapters and domains change hands; None where more is refused now."""
        stays = [*self._held(standing, targets), *self.still.queues]
        held = Matrix(*(IdSet(bits) for bits in _union(stays)))
        if any(mdev.leaving for mdev in self.view.mdevs.values()):
            held = Matrix(IdSet.every(), IdSet.every())  # what a leaving device holds cannot be read (V-35)
        frozen = {wanted.uuid for wanted in self.wish.mdevs if wanted.frozen}
        others = {uuid: matrix for uuid, matrix in standing.items() if uuid not in frozen}
        problem = ReleaseProblem(
            present=self.view.present,
            wanted=[*self._held(others, targets), *self.still.released(self.view.masks)],
            reserved=[*self.wish.reserved, *self.still.with_host(self.view.masks)],
            masks=self.view.masks,
            ours=self.ours.bits,
            held=held,
        )
        found = plan_release(problem)
        if isinstance(found, Release):
            return self._unstirred(by_masks(self.view, found, targets.values()), targets)
        # A queue is impossible by itself or not at all, so each device can be tried alone.
        for uuid, target in targets.items():
            alone = replace(problem, present=Matrix(), wanted=[target])
            if isinstance(refusal := plan_release(alone), Refusal):
                moves = isinstance(plan_release(replace(alone, reserved=self.wish.reserved)), Release)
                self._refuse(uuid, whynot.cannot_pass(uuid) if moves else refusal)
        if not targets.keys() & self.refusals.keys():
            for uuid in targets:  # a device that stays as it is holds a reserved queue
                self._refuse(uuid, found)
        return None

    def _unstirred(self, handover: Handover, targets: dict[str, Matrix]) -> Handover:
        """Return the handover without edits of masks, where any edit would bind a queue that is held still."""
        loose = self.still.loose(self.view)
        if loose is None:
            return handover
        for uuid, target in targets.items():
            if any(self.view.masks.reserves(apqn) for apqn in target):
                self._refuse(uuid, whynot.held_still(*loose))
        before, after = (
            tuple(step for step in steps if not isinstance(step, EditMask))
            for steps in (handover.before, handover.after)
        )
        return replace(handover, before=before, after=after)

    def _check_guests(self, targets: dict[str, Matrix], handover: Handover) -> set[str]:
        """Refuse changes that would take an adapter from a running guest; return those that wait for a queue."""
        waiting: set[str] = set()
        for uuid, target in targets.items():
            mdev = self.view.mdevs.get(uuid)
            if mdev is None or not mdev.in_use or mdev.matrix == target or uuid in self.refusals:
                continue
            missing = unbound_under_guest(self.view, mdev, target)
            if all(handover.comes(apqn) for apqn in missing):
                if missing:
                    waiting.add(uuid)
            else:
                self._refuse(uuid, whynot.would_filter(missing[0], self.view))
        return waiting

    def _configurations(
        self, standing: dict[str, Matrix], targets: dict[str, Matrix], waiting: set[str]
    ) -> list[Step]:
        """Return creations and configurations in an order in which no queue is ever wanted by two at once."""
        steps: list[Step] = []
        now: dict[str, Matrix] = dict(standing)
        for uuid in targets:
            mdev = self.view.mdevs.get(uuid)
            if mdev is None:
                steps.append(Create(uuid))
            now[uuid] = (mdev.matrix if mdev else None) or Matrix()
        taken = Occupancy(now)
        pending = [uuid for uuid, target in targets.items() if now[uuid] != target and uuid not in waiting]
        while pending:
            ready = [uuid for uuid in pending if taken.conflict(uuid, targets[uuid]) is None]
            for uuid in ready:
                steps += self._configure(uuid, now[uuid], targets[uuid])
                now[uuid] = targets[uuid]
                taken.put(uuid, now[uuid])
            pending = [uuid for uuid in pending if uuid not in ready]
            if pending and not ready:
                shrunk = self._shrink_one(pending, now, targets)
                if shrunk is None:
                    break
                uuid, smaller = shrunk
                steps += self._configure(uuid, now[uuid], smaller)
                now[uuid] = smaller
                taken.put(uuid, smaller)
        for uuid in pending:
            other, apqn = taken.conflict(uuid, targets[uuid]) or ("", "")
            if other not in waiting:
                text = f"is still with {other}, and both are in use"
                self._refuse(uuid, Refusal("Exchange", str(apqn), text, "change one of them first"))
            waiting.add(uuid)
        return _creates_beside_configurations(steps)

    def _refilters(self, targets: dict[str, Matrix]) -> list[Refilter]:
        """Return idle devices that lack adapters for no reason that still holds (V-24)."""
        steps = []
        for uuid, target in targets.items():
            mdev = self.view.mdevs.get(uuid)
            if mdev is None or mdev.matrix != target or mdev.guest is None or not mdev.proven_idle:
                continue
            domains = target.domains & self.view.present.domains
            lacking = (target.adapters & self.view.present.adapters) - mdev.guest.adapters
            able = IdSet.from_ids(a for a in lacking if self._bound(a, domains))
            if domains and able:
                steps.append(Refilter(uuid, target, mdev.guest, able))
        return steps

    def _bound(self, adapter: int, domains: IdSet) -> bool:
        queues = (self.view.queues.get(Apqn(adapter, domain)) for domain in domains)
        return all(queue is not None and queue.driver == GUEST_DRIVER for queue in queues)

    def _shrink_one(
        self, pending: list[str], now: dict[str, Matrix], targets: dict[str, Matrix]
    ) -> tuple[str, Matrix] | None:
        """Return an idle device of a ring of exchanges, and what it can keep meanwhile."""
        for uuid in pending:
            old, new = now[uuid], targets[uuid]
            smaller = Matrix(old.adapters & new.adapters, old.domains & new.domains, old.control_domains)
            if smaller != old and not self.view.mdevs[uuid].in_use:
                return uuid, smaller
        return None

    def _configure(self, uuid: str, old: Matrix, new: Matrix) -> list[Step]:
        if self.view.kernel.ap_config:
            return [Configure(uuid, new)]
        return list(assignments(uuid, old, new))

    def _refuse(self, uuid: str, refusal: Refusal) -> None:
        self.refusals.setdefault(uuid, refusal)


def assignments(uuid: str, old: Matrix, new: Matrix) -> list[Assign]:
    """Return single writes from one configuration to another; every state between is within one of the two."""
    steps: list[Assign] = []
    now = old
    for verb in ("unassign", "assign"):
        for kind, field in (("adapter", "adapters"), ("domain", "domains"), ("control_domain", "control_domains")):
            have: IdSet = getattr(now, field)
            want: IdSet = getattr(new, field)
            for number in have - want if verb == "unassign" else want - have:
                change = IdSet.of(number)
                have = have - change if verb == "unassign" else have | change
                now = replace(now, **{field: have})
                steps.append(Assign(uuid, f"{verb}_{kind}", number, now))
    return steps


def _creates_beside_configurations(steps: list[Step]) -> list[Step]:
    """Move each creation right before its device's first configuration, so that a crash leaves few empty ones."""
    creates = {step.uuid: step for step in steps if isinstance(step, Create)}
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Configure | Assign) and step.uuid in creates:
            result.append(creates.pop(step.uuid))
        if not isinstance(step, Create):
            result.append(step)
    return [*result, *creates.values()]


def _union(matrices: list[Matrix]) -> tuple[int, int]:
    adapters = domains = 0
    for matrix in matrices:
        adapters |= matrix.adapters.bits
        domains |= matrix.domains.bits
    return adapters, domains
