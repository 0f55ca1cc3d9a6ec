"""Moves of VMs with a matrix: what each one is doing, from what is there now.

A move is asked for by an APMigration, or begins as a migration of KubeVirt's that somebody else made; either way
it is followed to its end, and that is after the target's kernel was read back. Nothing here chooses nodes or lets
pods go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.evacuation import Evacuation, VmView
from vfio_ap.fleet.gate import GIVEN_UP, GatePlan, Situation
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.verdict.failures import recognise
from vfio_ap.fleet.views import MatrixView, NodeView

FINAL = frozenset({"Checked", "Refused", "Succeeded", "Alarm", "Failed"})
_BEFORE_POD = frozenset({"", "Pending"})


@dataclass(frozen=True, slots=True)
class MigrationView:
    """One migration of KubeVirt's (VirtualMachineInstanceMigration)."""

    namespace: str
    name: str
    uid: str
    vm: str
    """Name of its VMI."""
    phase: str = ""
    """KubeVirt's word, empty at first."""
    target: str = ""
    """Node, once it is known."""
    failure: str = ""
    asked_by: str = "user"
    move: str = ""
    """Name of the APMigration that it was made for."""

    @property
    def handed_over(self) -> bool:
        """Tell whether KubeVirt has found the target pod ready, after which the guests' hosts have it in hand."""
        return self.phase not in ("", "Pending", "Scheduling")

    @property
    def over(self) -> bool:
        """Tell whether it has ended."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """How a move stands; what an APMigration's status says, without times."""

    phase: str = ""
    line: str = ""
    matrix: str = ""
    uuid: str = ""
    source: str = ""
    target: str = ""
    mode: str = ""
    asked_by: str = ""
    migration: str = ""
    migration_uid: str = ""
    answers: tuple[Answer, ...] = ()
    refusal: Refusal | None = None
    """What failed, or what is waited for."""

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.phase in FINAL


@dataclass(frozen=True, slots=True)
class MoveView:
    """One APMigration: what is asked for, and how it was said to stand."""

    namespace: str
    name: str
    uid: str
    vm: str
    node: str = ""
    dry_run: bool = False
    created: str = ""
    status: MoveStatus = MoveStatus()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a move depends on."""

    matrix: MatrixView
    plan: GatePlan
    pods: tuple[PodView, ...]
    nodes: Mapping[str, NodeView]
    vm: VmView | None
    fresh: bool = False
    """The target's agent has read its kernel since KubeVirt called the migration a success."""


def begun(move: MoveView, migration: MigrationView, matrix: MatrixView, vm: VmView | None) -> MoveStatus:
    """Return the status of a move whose migration is there, seen for the first time."""
    return replace(
        move.status,
        matrix=matrix.name,
        uuid=matrix.uuid,
        source=move.status.source or (vm.node if vm is not None else ""),
        mode="Live",
        asked_by=move.status.asked_by or migration.asked_by,
        migration=migration.name,
        migration_uid=migration.uid,
    )


def asked(move: MoveView, matrix: MatrixView, vm: VmView, step: Evacuation) -> MoveStatus:
    """Return the status of a move that has no migration yet, from the next step that was planned for it."""
    status = replace(
        move.status,
        matrix=matrix.name,
        uuid=matrix.uuid,
        source=vm.node,
        asked_by=move.status.asked_by or "user",
        answers=step.answers,
        refusal=step.wait,
        target=next(iter(step.prepare), ""),
    )
    if move.dry_run:
        open_ones = [answer.node for answer in step.answers if answer.refusal is None]
        line = f"can move to {', '.join(open_ones)}" if open_ones else f"cannot move: {_reason(step.wait)}"
        return replace(status, phase="Checked", line=line, target="", refusal=None if open_ones else step.wait)
    if step.wait is None:
        return replace(status, phase="Preparing", line=f"ready to move from {vm.node} to {step.start}")
    # A node that does not answer now may do so in a moment: a refusal is final, so it is not for that.
    silent = any(a.refusal is not None and a.refusal.reason == "NodeSilent" for a in step.answers)
    hopeless = step.wait.reason in ("NoTarget", "NotMigratable") and not silent
    if hopeless and status.asked_by == "user":
        return replace(status, phase="Refused", line=f"cannot move: {step.wait}")
    phase = "Preparing" if step.prepare else "Waiting"
    return replace(status, phase=phase, line=f"on {vm.node}; {step.wait}")


def refused(move: MoveView, refusal: Refusal) -> MoveStatus:
    """Return the status of a request that cannot be granted."""
    return replace(move.status, phase="Refused", line=f"cannot move: {refusal}", refusal=refusal)


def followed(status: MoveStatus, migration: MigrationView | None, around: Surroundings) -> MoveStatus:
    """Return how a move stands whose migration was made; ``migration`` is None once KubeVirt has dropped it."""
    if migration is None or migration.phase == "Succeeded":
        return _arrived(status, migration, around)
    if migration.phase == "Failed":
        if status.refusal is not None and status.refusal.reason == GIVEN_UP:
            return _failed(status, status.refusal)
        said = migration.failure or (around.vm.failure if around.vm is not None else "")
        return _failed(status, _meant(migration, said))
    pod = next((pod for pod in around.pods if pod.migration == migration.uid), None)
    wait = next((wait for wait in around.plan.waits if pod is not None and wait.pod.uid == pod.uid), None)
    status = replace(status, answers=around.plan.answers or status.answers, refusal=wait.refusal if wait else None)
    if pod is not None and pod.node:
        status = replace(status, target=pod.node)
    if pod is None or migration.phase in _BEFORE_POD:
        return replace(status, phase="Waiting", line="KubeVirt has not made the target pod yet")
    if not pod.node:
        placing = wait is None or wait.refusal.reason not in ("NoNode", "MatrixInUse")
        text = str(wait.refusal) if wait is not None else "the target pod is being placed"
        return replace(status, phase="Preparing" if placing else "Waiting", line=text)
    if pod.held:
        text = str(wait.refusal) if wait is not None else "the target pod starts"
        return replace(status, phase="Holding", line=f"held on {pod.node}: {text}")
    line = f"from {status.source} to {pod.node}: KubeVirt {migration.phase}, device {_device(migration.phase)}"
    return replace(status, phase="Moving", line=line, refusal=None)


def lingering(situation: Situation, vm: VmView, moves: Iterable[MoveView]) -> Evacuation:
    """Return the sources that keep their device for a while after a move, as the policy says.

    One that has given its device back already does not get it again.
    """
    found = Evacuation()
    keep, name = situation.policy.keep_source, situation.matrix.name
    for move in moves:
        source = situation.nodes.get(move.status.source)
        if not keep or move.status.phase != "Succeeded" or source is None or source.name == vm.node:
            continue
        if not any(item.matrix == name for item in source.desired):
            continue
        key = (move.uid, source.name)
        left = keep - situation.waited.get(key, 0.0)
        found = replace(found, timed=found.timed | {key})
        if left > 0:
            patience = min(left, found.patience or left)
            found = replace(found, prepare=found.prepare | {source.name}, patience=patience)
    return found


def _device(phase: str) -> str:
    """Return the states of the device on both sides in a phase of KubeVirt's (VFIO migration v2; seed 004)."""
    if phase == "Running":
        return "RUNNING until the guest stops, then STOP_COPY; target STOP, then RESUMING"
    return "RUNNING; target STOP"


def _arrived(status: MoveStatus, migration: MigrationView | None, around: Surroundings) -> MoveStatus:
    """Say what became of a move that KubeVirt calls a success, or has dropped: look where the VM is."""
    vm = around.vm
    if migration is None and (vm is None or vm.node == status.source or not status.source):
        if status.refusal is not None and status.refusal.reason == GIVEN_UP:
            return _failed(status, status.refusal)
        text = "it was deleted before it ended; the VM stays where it is"
        return _failed(status, Refusal("Cancelled", f"migration {status.migration}", text))
    target = (migration.target if migration is not None else "") or status.target or (vm.node if vm else "")
    status = replace(status, target=target)
    if vm is None:
        text = "it arrived and has ended since"
        return replace(status, phase="Succeeded", line=f"moved to {target}; {text}", refusal=None)
    if not around.fresh:
        line = f"arrived on {target}; the target's kernel is being read back"
        return replace(status, phase="Moving", line=line, refusal=None)
    if refusal := _not_as_meant(around, target):
        return replace(status, phase="Alarm", line=f"arrived on {target}, but {refusal}", refusal=refusal)
    line = f"moved from {status.source} to {target}" if status.source else f"moved to {target}"
    return replace(status, phase="Succeeded", line=f"{line}; device as meant", refusal=None)


def _not_as_meant(around: Surroundings, target: str) -> Refusal | None:
    """Return what of the device is not as it was meant to be; after a move the kernel took the source's (L-11)."""
    node = around.nodes.get(target)
    shall = next((d for d in node.desired if d.matrix == around.matrix.name), None) if node is not None else None
    held = node.mdevs.get(around.matrix.uuid) if node is not None else None
    subject = f"device {around.matrix.uuid} on node {target}"
    if node is None or shall is None or held is None:
        text = "it is not there, though the VM runs there"
        return Refusal("DeviceGone", subject, text, "see the node's APNode, and restart the VM")
    if held.configuration != shall.configuration:
        text = f"it holds {held.configuration} after the move, and {shall.configuration} was meant"
        return Refusal("NotAsMeant", subject, text, "its agent sets it right; check the guest's adapters")
    if held.guest is not None and held.guest != held.configuration:
        text = f"the guest gets {held.guest} of {held.configuration}: the rest was filtered away"
        return Refusal("FilteredAway", subject, text, "bring the missing queues back on the node")
    return None


def _meant(migration: MigrationView, said: str) -> Refusal:
    """Return what a failure means, with the words in which it was told."""
    known, subject = recognise(said), f"migration {migration.name}"
    if known is None:
        return Refusal(
            "MigrationFailed", subject, said or "no reason given", "see the VMI's status.migrationState"
        )
    about = f"{known.subject}: " if known.subject else ""
    return Refusal(known.reason, subject, f"{about}{known.message} ({said})", known.remedy)


def _failed(status: MoveStatus, refusal: Refusal) -> MoveStatus:
    where = f"; the VM is on {status.source}" if status.source else ""
    return replace(status, phase="Failed", line=f"{refusal}{where}", refusal=refusal)


def _reason(refusal: Refusal | None) -> str:
    return str(refusal) if refusal is not None else "no node is known"
