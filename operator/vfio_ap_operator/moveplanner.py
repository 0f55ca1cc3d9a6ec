"""Decides the next step of every move of a VM with a matrix, one matrix at a time.

What each move is doing is decided in the core; this brings it what is known of migrations, pods and nodes, and
remembers what was asked of KubeVirt and of agents until it shows. Writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet import moves
from vfio_ap.fleet.evacuation import Evacuation, Traffic, VmView, plan_evacuation
from vfio_ap.fleet.gate import Cancel, GatePlan, Situation
from vfio_ap.fleet.moves import MigrationView, MoveStatus, MoveView, Surroundings
from vfio_ap.fleet.shape import shapes
from vfio_ap_operator.fleet import Fleet

_ANSWER = 15.0
"""Seconds that a target's agent gets to say why its kernel took no guest."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be written for one move."""

    move: MoveView
    status: MoveStatus
    vm: VmView | None = None
    start: str = ""
    """Node to ask KubeVirt's migration for, or to have the VM started on."""


class MovePlanner:
    """Decides on moves; one per operator."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.steps: dict[str, list[Step]] = {}
        """By matrix."""
        self.births: dict[str, list[tuple[VmView, MigrationView | None]]] = {}
        """By matrix, moves that have no APMigration yet."""
        self._starting: dict[str, tuple[str, str]] = {}
        """Source and target of moves that were let start and have no migration yet."""
        self._stopped: set[str] = set()
        """Moves whose VM KubeVirt was asked to restart."""
        self._read_back: dict[str, set[str]] = {}
        """By node, the moves that have arrived there, or not, and are to be looked at."""

    @property
    def busy(self) -> set[str]:
        """Return the matrices with a move to write something for."""
        return {name for name in self.steps if self.steps[name] or self.births.get(name)}

    def not_started(self, move: MoveView) -> None:
        """Take in that KubeVirt refused to start a move: it is not under way."""
        self._starting.pop(move.uid, None)

    def stopped(self, move: MoveView) -> None:
        """Take in that KubeVirt was asked to restart a move's VM: once is enough."""
        self._stopped.add(move.uid)

    def read_back(self, node: str) -> frozenset[str]:
        """Return what stands for the moves since whose end the node's agent must have read its kernel."""
        return frozenset(self._read_back.get(node, ()))

    def in_flight(self, matrix: str) -> bool:
        """Tell whether a move of the matrix's VM has begun and is not yet seen to its end.

        Its status may not say so yet, if we were killed before it was written; what the kernels have would then be
        repaired before it was read back.
        """
        work = self._fleet.work
        return any(
            move.status.phase == "Moving"
            or ((found := work.migration_for(move)) is not None and found.handed_over)
            for vm in work.vms_of(matrix)
            for move in work.moves_of(vm.namespace, vm.name)
            if not move.status.over
        )

    def decide(self, situation: Situation, plan: GatePlan) -> Evacuation:
        """Decide the next step of each move of a matrix's VMs; return what the nodes must hold for them."""
        name, work = situation.matrix.name, self._fleet.work
        steps: list[Step] = []
        births: list[tuple[VmView, MigrationView | None]] = []
        needs = Evacuation()
        for vm in work.vms_of(name):
            known = work.moves_of(vm.namespace, vm.name)
            claimed = {m.uid for move in known if (m := work.migration_for(move)) is not None}
            births += [(vm, m) for m in work.migrations_of(vm) if not m.over and m.uid not in claimed]
            first = ""
            for move in [move for move in known if not move.status.over]:
                step, planned = self._next(situation, plan, vm, move, first)
                first = first or move.name
                needs = needs | (planned or Evacuation())
                steps.append(step)
            needs = needs | moves.lingering(situation, vm, known)
            if vm.evacuating and vm.external and not steps and not births and self._may_try(situation, vm, known):
                births.append((vm, None))
        for move in work.restarting(name):
            if work.vm_named(move.namespace, move.vm) is None:
                step, planned = self._restart(situation, plan, None, move)
                needs = needs | planned
                steps.append(step)
        self.steps[name], self.births[name] = steps, births
        return needs

    def _may_try(self, situation: Situation, vm: VmView, known: list[MoveView]) -> bool:
        """Tell whether a marked VM is to be moved; under a policy that does not retry, one failure is the last."""
        last = next((move.status for move in reversed(known) if move.status.asked_by == "evacuation"), None)
        failed = last is not None and last.phase == "Failed" and last.source == vm.node
        return situation.policy.retries or not failed

    def _next(
        self, situation: Situation, plan: GatePlan, vm: VmView, move: MoveView, first: str
    ) -> tuple[Step, Evacuation | None]:
        """Return what to write for one open move, and what it needs of the nodes before it has a migration."""
        work = self._fleet.work
        if move.status.restarting:
            return self._restart(situation, plan, vm, move)
        migration = work.migration_for(move)
        if migration is not None or move.status.migration_uid:
            self._starting.pop(move.uid, None)
            status = move.status
            if migration is not None and not status.migration:
                status = moves.begun(move, migration, situation.matrix, vm)
            status, asking = self._follow(situation, plan, vm, status, migration)
            return Step(move, status, vm), self._until_pod(situation, status) | asking
        if first and not move.dry_run:
            text = f"another move of it, {first}, is not over"
            remedy = "wait for it, or delete its migration"
            return Step(move, moves.refused(move, Refusal("MoveInFlight", f"VM {vm}", text, remedy)), vm), None
        source = plan.source
        if source is None or source.owner != vm.uid:
            wait = Refusal("NotSettled", f"VM {vm}", "it has no pod, or more than one")
            return Step(move, moves.asked(move, situation.matrix, vm, Evacuation(wait=wait)), vm), None
        planned = plan_evacuation(situation, vm, source, self._traffic(move), move.node)
        status = moves.asked(move, situation.matrix, vm, planned)
        if move.dry_run:
            return Step(move, status, vm), None
        if planned.start:
            self._starting[move.uid] = (vm.node, planned.start)
        return Step(move, status, vm, planned.start), planned

    def _until_pod(self, situation: Situation, status: MoveStatus) -> Evacuation:
        """Keep what was prepared for a migration while no target pod asks for it by itself."""
        pods = self._fleet.work.pods.get(situation.matrix.name, {}).values()
        if status.over or not status.target or any(pod.migration == status.migration_uid for pod in pods):
            return Evacuation()
        made = shapes(situation.matrix, (status.source,), status.target, situation.nodes)
        return Evacuation(frozenset({status.target}), made)

    def _follow(
        self, situation: Situation, plan: GatePlan, vm: VmView, status: MoveStatus, migration: MigrationView | None
    ) -> tuple[MoveStatus, Evacuation]:
        """Return how a move stands that has, or had, a migration, and the time that a wait of it may take."""
        cancel = next(
            (a for a in plan.actions if isinstance(a, Cancel) and a.pod.migration == status.migration_uid), None
        )
        if cancel is not None and (migration is None or not migration.handed_over):
            return replace(status, line=str(cancel.refusal), refusal=cancel.refusal), Evacuation()
        target = (migration.target if migration is not None else "") or status.target or vm.node
        token = status.migration_uid
        asked = (token, f"kernel of {target}")
        left = _ANSWER - situation.waited.get(asked, 0.0)
        node = self._fleet.views.get(target)
        patient = node is not None and node.alive and left > 0
        around = self._around(situation, plan, vm, target, token, patient)
        found = moves.followed(status, migration, around)
        asking = found.phase == "Moving" and (migration is None or migration.over)
        self._ask_back(target, token, asking)
        wait = Evacuation(timed=frozenset({asked}), patience=max(left, 0.0) or None)
        return found, wait if asking else Evacuation()

    def _restart(
        self, situation: Situation, plan: GatePlan, vm: VmView | None, move: MoveView
    ) -> tuple[Step, Evacuation]:
        """Return what to write for a move whose VM is stopped and started elsewhere, and what it needs."""
        status, limits = move.status, situation.policy.limits
        key = (move.uid, "restart")
        left = limits.prepare + limits.hold - situation.waited.get(key, 0.0)
        around = self._around(situation, plan, vm, status.target, move.uid, left > 0)
        found = moves.restarted(status, around)
        old = vm is not None and vm.uid == status.instance
        self._ask_back(status.target, move.uid, vm is not None and not old and not found.over)
        if found.over:
            self._stopped.discard(move.uid)
            return Step(move, found, vm), Evacuation()
        start = status.target if old and move.uid not in self._stopped else ""
        return Step(move, found, vm, start), Evacuation(
            frozenset({status.target}), timed=frozenset({key}), patience=max(left, 0.0) or None
        )

    def _around(
        self, situation: Situation, plan: GatePlan, vm: VmView | None, target: str, token: str, patient: bool
    ) -> Surroundings:
        """Return what a move to the target depends on; ``token`` is what its agent was asked to read back for."""
        node = self._fleet.views.get(target)
        fresh = node is not None and node.alive and node.current and token in node.read_back
        pods = tuple(self._fleet.work.pods.get(situation.matrix.name, {}).values())
        return Surroundings(situation.matrix, plan, pods, self._fleet.views, vm, fresh, patient)

    def _ask_back(self, target: str, token: str, wanted: bool) -> None:
        """Have the target's agent read its kernel for a move, or no more."""
        waiting = self._read_back.setdefault(target, set())
        if not wanted:
            waiting.discard(token)
        elif token not in waiting:
            waiting.add(token)
            self._fleet.dirty_nodes.add(target)

    def _traffic(self, move: MoveView) -> Traffic:
        """Return the moves under way, with those that were let start a moment ago."""
        if move.dry_run:
            return Traffic()
        known = self._fleet.work.moves
        now = self._fleet.work.traffic()
        more = Traffic.of(pair for uid, pair in self._starting.items() if uid != move.uid and uid in known)
        return Traffic(now.leaving + more.leaving, now.entering + more.entering, now.total + more.total)
