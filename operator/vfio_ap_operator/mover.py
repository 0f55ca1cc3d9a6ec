"""Follows every move of a VM with a matrix, and asks KubeVirt for those that are asked of us.

What each move is doing is decided in the core; this brings the pieces together for one matrix at a time and writes
what came of it: APMigration objects and their status, KubeVirt's migrations, Events on the VM.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.fleet import moves
from vfio_ap.fleet.evacuation import Evacuation, Traffic, VmView, plan_evacuation
from vfio_ap.fleet.gate import Cancel, GatePlan, Situation
from vfio_ap.fleet.launchers import HOSTNAME
from vfio_ap.fleet.moves import MigrationView, MoveStatus, MoveView, Surroundings
from vfio_ap.fleet.shape import shapes
from vfio_ap_kube.client import ApiError, Client
from vfio_ap_kube.clock import utc_now
from vfio_ap_kube.events import EventPoster
from vfio_ap_operator import requests
from vfio_ap_operator.fleet import Fleet

_LOG = logging.getLogger(__name__)
_PATIENCE = 10.0
"""Seconds until KubeVirt is asked again for a migration that it refused."""
_ANSWER = 15.0
"""Seconds that a target's agent gets to say why its kernel took no guest."""
_HISTORY = 10
"""Moves of a VM that have ended and are kept."""
_TROUBLE = ("Failed", "Alarm", "Refused")


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be written for one move."""

    move: MoveView
    status: MoveStatus
    vm: VmView | None = None
    start: str = ""
    """Node to ask KubeVirt's migration for."""


class Mover:
    """Acts on moves; one per operator."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events
        self._steps: dict[str, list[_Step]] = {}
        """By matrix."""
        self._births: dict[str, list[tuple[VmView, MigrationView | None]]] = {}
        """By matrix, moves that have no APMigration yet."""
        self._starting: dict[str, tuple[str, str]] = {}
        """Source and target of moves that were let start and have no migration yet."""
        self._refused_until: dict[str, float] = {}
        self._read_back: dict[str, set[str]] = {}
        """By node, the migrations that have arrived there and are to be looked at."""

    def read_back(self, node: str) -> frozenset[str]:
        """Return the migrations since whose end the node's agent must have read its kernel."""
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

    # -- decisions, one matrix at a time

    def decide(self, situation: Situation, plan: GatePlan) -> Evacuation:
        """Decide the next step of each move of a matrix's VMs; return what the nodes must hold for them."""
        name, work = situation.matrix.name, self._fleet.work
        steps: list[_Step] = []
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
        self._steps[name], self._births[name] = steps, births
        return needs

    def _may_try(self, situation: Situation, vm: VmView, known: list[MoveView]) -> bool:
        """Tell whether a marked VM is to be moved; under a policy that does not retry, one failure is the last."""
        last = next((move.status for move in reversed(known) if move.status.asked_by == "evacuation"), None)
        failed = last is not None and last.phase == "Failed" and last.source == vm.node
        return situation.policy.retries or not failed

    def _next(
        self, situation: Situation, plan: GatePlan, vm: VmView, move: MoveView, first: str
    ) -> tuple[_Step, Evacuation | None]:
        """Return what to write for one open move, and what it needs of the nodes before it has a migration."""
        work = self._fleet.work
        migration = work.migration_for(move)
        if migration is not None or move.status.migration_uid:
            self._starting.pop(move.uid, None)
            status = move.status
            if migration is not None and not status.migration:
                status = moves.begun(move, migration, situation.matrix, vm)
            status, asking = self._follow(situation, plan, vm, status, migration)
            return _Step(move, status, vm), self._until_pod(situation, status) | asking
        if first and not move.dry_run:
            text = f"another move of it, {first}, is not over"
            remedy = "wait for it, or delete its migration"
            return _Step(move, moves.refused(move, Refusal("MoveInFlight", f"VM {vm}", text, remedy)), vm), None
        source = plan.source
        if source is None or source.owner != vm.uid:
            wait = Refusal("NotSettled", f"VM {vm}", "it has no pod, or more than one")
            return _Step(move, moves.asked(move, situation.matrix, vm, Evacuation(wait=wait)), vm), None
        planned = plan_evacuation(situation, vm, source, self._traffic(move), move.node)
        status = moves.asked(move, situation.matrix, vm, planned)
        if move.dry_run:
            return _Step(move, status, vm), None
        if planned.start:
            self._starting[move.uid] = (vm.node, planned.start)
        return _Step(move, status, vm, planned.start), planned

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
        node = self._fleet.views.get(target)
        fresh = node is not None and node.alive and node.current and status.migration_uid in node.read_back
        pods = tuple(self._fleet.work.pods.get(situation.matrix.name, {}).values())
        asked = (status.migration_uid, f"kernel of {target}")
        left = _ANSWER - situation.waited.get(asked, 0.0)
        patient = node is not None and node.alive and left > 0
        around = Surroundings(situation.matrix, plan, pods, self._fleet.views, vm, fresh, patient)
        found = moves.followed(status, migration, around)
        waiting = self._read_back.setdefault(target, set())
        if found.phase != "Moving" or not (migration is None or migration.over):
            waiting.discard(status.migration_uid)
            return found, Evacuation()
        if status.migration_uid not in waiting:
            waiting.add(status.migration_uid)
            self._fleet.dirty_nodes.add(target)
        return found, Evacuation(timed=frozenset({asked}), patience=max(left, 0.0) or None)

    def _traffic(self, move: MoveView) -> Traffic:
        """Return the moves under way, with those that were let start a moment ago."""
        if move.dry_run:
            return Traffic()
        known = self._fleet.work.moves
        now = self._fleet.work.traffic()
        more = Traffic.of(pair for uid, pair in self._starting.items() if uid != move.uid and uid in known)
        return Traffic(now.leaving + more.leaving, now.entering + more.entering, now.total + more.total)

    # -- writes

    @property
    def busy(self) -> set[str]:
        """Return the matrices with a move to write something for."""
        return {name for name in self._steps if self._steps[name] or self._births.get(name)}

    async def act(self, matrix: str) -> None:
        """Write what was decided for a matrix's moves. Raises ApiError when the API server is away."""
        for vm, migration in self._births.get(matrix, ()):
            document = requests.move(vm, migration)
            created = await self._client.create(requests.MOVES.within(vm.namespace), document)
            self._fleet.work.observe_move(created)
        for step in self._steps.get(matrix, ()):
            await self._write(step)
            if step.start and step.vm is not None:
                await self._start(matrix, step, step.vm)

    async def settle_strays(self) -> None:
        """Refuse the moves of VMs that do not run, or have no matrix."""
        work = self._fleet.work
        if not work.complete:
            return
        strays, work.strays = work.strays, set()
        for uid in strays & work.moves.keys():
            move = work.moves[uid]
            if move.status.over or work.vm_named(move.namespace, move.vm) is not None:
                continue
            status = self._lost(move)
            await self._write(_Step(move, status))

    def _lost(self, move: MoveView) -> MoveStatus:
        name = f"VM {move.namespace}/{move.vm}"
        if not move.status.migration_uid:
            text, remedy = "it does not run, or has no matrix", "see kubectl get vmi, and its annotation"
            return moves.refused(move, Refusal("NoMatrix", name, f"{text} (ap.s390x.io/matrix)", remedy))
        refusal = Refusal("VmGone", name, "it ended during the move")
        return replace(move.status, phase="Failed", line=str(refusal), refusal=refusal)

    async def _write(self, step: _Step) -> None:
        """Write the status if it says something else than before; tell the VM of a new phase or reason."""
        move, status = step.move, step.status
        known = self._fleet.work.documents.get(move.uid)
        if known is None:
            return
        document = requests.move_status(known, status, utc_now())
        if document["status"] == known["status"]:
            return
        resource = requests.MOVES.within(move.namespace)
        try:
            self._fleet.work.observe_move(await self._client.apply(resource, document, subresource="status"))
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            return
        if (status.phase, _reason(status)) != (move.status.phase, _reason(move.status)):
            await self._announce(step)
        if status.over:
            await self._forget_old(move)

    async def _announce(self, step: _Step) -> None:
        status = step.status
        trouble = status.phase in _TROUBLE or _reason(status) in ("NoTarget", "NotMigratable")
        kind: Literal["Normal", "Warning"] = "Warning" if trouble else "Normal"
        reason = _reason(status) or f"Move{status.phase}"
        what = f"evacuation of node {status.source}" if status.asked_by == "evacuation" else "move"
        await self._events.post(requests.about_move(step.move), kind, reason, status.line)
        if step.vm is not None:
            await self._events.post(requests.about_vm(step.vm), kind, reason, f"{what}: {status.line}")

    async def _start(self, matrix: str, step: _Step, vm: VmView) -> None:
        """Ask KubeVirt for the migration; it refuses a second one of the same VM by itself."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._refused_until.get(step.move.uid, 0.0):
            return
        hostname = self._fleet.views[step.start].labels.get(HOSTNAME, step.start)
        try:
            document = requests.migration(vm, hostname, step.move)
            made = await self._client.create(requests.MIGRATIONS.within(vm.namespace), document)
        except ApiError as error:
            if not error.status:
                raise
            self._starting.pop(step.move.uid, None)
            self._refused_until[step.move.uid] = loop.time() + _PATIENCE
            loop.call_later(_PATIENCE, self._fleet.touch, matrix)
            _LOG.info("KubeVirt refuses to migrate VM %s: %s", vm, error)
            await self._events.post(requests.about_vm(vm), "Warning", "MigrationRefused", str(error))
            return
        self._fleet.work.observe_migration(made)
        reason = "Evacuating" if step.status.asked_by == "evacuation" else "Migrating"
        await self._events.post(
            requests.about_vm(vm), "Normal", reason, f"moving from node {vm.node} to {step.start}"
        )

    async def _forget_old(self, move: MoveView) -> None:
        """Delete the oldest moves of a VM that have ended, so that the history stays short."""
        ended = [m for m in self._fleet.work.moves_of(move.namespace, move.vm) if m.status.over]
        for old in ended[:-_HISTORY]:
            try:
                await self._client.delete(requests.MOVES.within(old.namespace), old.name)
            except ApiError as error:
                if not error.not_found:
                    raise


def _reason(status: MoveStatus) -> str:
    return status.refusal.reason if status.refusal is not None else ""
