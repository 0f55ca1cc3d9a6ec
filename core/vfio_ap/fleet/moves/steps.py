"""What a move is doing, from what is there now, until KubeVirt says that it is over.

A move is asked for by an APMigration, or begins as a migration of KubeVirt's that somebody else made; either way
it is followed to its end. Nothing here chooses nodes or lets pods go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.evacuation import Evacuation, VmView
from vfio_ap.fleet.gate import Release, Situation
from vfio_ap.fleet.moves.endings import arrived, failed
from vfio_ap.fleet.moves.types import MigrationView, MoveStatus, MoveView, Surroundings
from vfio_ap.fleet.verdict import Mode
from vfio_ap.fleet.verdict.question import in_guest
from vfio_ap.fleet.views import MatrixView
from vfio_ap.matrix import Matrix

_BEFORE_POD = frozenset({"", "Pending"})
_PASSING = frozenset({"NodeSilent", "NodeNotReady"})


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
        mode=step.mode,
    )
    if move.dry_run:
        open_ones = [_way(answer) for answer in step.answers if answer.refusal is None]
        line = f"can move to {', '.join(open_ones)}" if open_ones else f"cannot move: {_reason(step.wait)}"
        return replace(status, phase="Checked", line=line, target="", refusal=None if open_ones else step.wait)
    if step.wait is None and step.mode == Mode.RESTART.value:
        line = f"on {vm.node}; is stopped, to be started on {step.start}"
        return replace(status, phase="Restarting", line=line, instance=vm.uid)
    if step.wait is None:
        return replace(status, phase="Preparing", line=f"ready to move from {vm.node} to {step.start}")
    # A node that does not answer now may do so in a moment: a refusal is final, so it is not for that.
    silent = any(a.refusal is not None and a.refusal.reason in _PASSING for a in step.answers)
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
        return arrived(status, migration, around)
    if migration.phase == "Failed":
        return failed(status, migration, around)
    pod = next((pod for pod in around.pods if pod.migration == migration.uid), None)
    wait = next((wait for wait in around.plan.waits if pod is not None and wait.pod.uid == pod.uid), None)
    # A migration that is ours is pinned to what was chosen among all: that choice is what there is to tell.
    answers = status.answers if migration.move else around.plan.answers or status.answers
    status = replace(status, answers=answers, refusal=wait.refusal if wait else None)
    if pod is not None and pod.node:
        status = replace(status, target=pod.node)
    if pod is None or migration.phase in _BEFORE_POD:
        return replace(status, phase="Waiting", line="KubeVirt has not made the target pod yet")
    if not pod.node:
        placing = wait is None or wait.refusal.reason not in ("NoNode", "MatrixInUse")
        text = str(wait.refusal) if wait is not None else "the target pod is being placed"
        return replace(status, phase="Preparing" if placing else "Waiting", line=text)
    # Said before the hold is lifted: whatever comes after it is a move on its way, also after a crash.
    released = any(isinstance(act, Release) and act.pod.uid == pod.uid for act in around.plan.actions)
    if pod.held and not released:
        text = str(wait.refusal) if wait is not None else "the target pod starts"
        return replace(status, phase="Holding", line=f"held on {pod.node}: {text}")
    line = f"from {status.source} to {pod.node}: KubeVirt {migration.phase}, device {_device(migration.phase)}"
    guest = _guest(around, status.source) if released else status.guest
    return replace(status, phase="Moving", line=line, guest=guest, refusal=None)


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


def _way(answer: Answer) -> str:
    """Return a node that a VM can move to, and how where that is not live."""
    return answer.node if answer.mode in ("", Mode.LIVE.value) else f"{answer.node} (by {answer.mode})"


def _guest(around: Surroundings, source: str) -> Matrix | None:
    """Return what the guest has on its source."""
    node = around.nodes.get(source)
    return in_guest(node.mdevs.get(around.matrix.uuid), node) if node is not None else None


def _device(phase: str) -> str:
    """Return the states of the device on both sides in a phase of KubeVirt's (VFIO migration v2; seed 004)."""
    if phase == "Running":
        return "RUNNING until the guest stops, then STOP_COPY; target STOP, then RESUMING"
    return "RUNNING; target STOP"


def _reason(refusal: Refusal | None) -> str:
    return str(refusal) if refusal is not None else "no node is known"
