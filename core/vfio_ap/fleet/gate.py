"""The gate: which nodes a matrix is prepared on, and which of its pods may go on.

A launcher pod that asks for a matrix is created with a scheduling gate. It is lifted once a node that the pod may
run on holds the device, read back, and kubelet publishes it. A first boot is not pinned, the resource places it; a
migration's target is. The target then runs and is held until both sides are frozen and looked at once more. One VM
has a matrix at a time. Everything here is a function of what is there now and of how long each wait has lasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer, candidates, nowhere
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.placement import Claim, Standing, standing
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.shape import shapes
from vfio_ap.fleet.verdict import GuestFacts
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap.matrix import Matrix

GIVEN_UP = "WaitedTooLong"
"""Reason of a move that the operator cancelled."""
_ROOM = 15.0
"""Seconds that the scheduler may see what kubelet has published late, before one more node is prepared."""
WaitKey = tuple[str, str]
"""A wait whose time counts: a pod's UID, and what for: a node's name, empty for the hold, or room on a node."""


@dataclass(frozen=True, slots=True)
class Lift:
    """Lift the scheduling gate of a pod, and pin it to a node where one is named."""

    pod: PodView
    pin: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """Let the migration that a held target pod stands for begin."""

    pod: PodView


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the migration of a target pod that has waited for too long; the VM stays where it is."""

    pod: PodView
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Wait:
    """A pod that must wait, and for what."""

    pod: PodView
    refusal: Refusal
    overdue: bool = False
    """It waits for longer than it should."""


@dataclass(frozen=True, slots=True)
class GatePlan:
    """What to do for the pods of one matrix."""

    claim: Claim = field(default_factory=Claim)
    """What of the nodes is held for them."""
    user: str = ""
    """Namespace and name of the VM that has the matrix, empty when none has."""
    namespace: str = ""
    """Namespace of the VM that runs with it: its permission lasts as long."""
    actions: tuple[Lift | Release | Cancel, ...] = ()
    waits: tuple[Wait, ...] = ()
    answers: tuple[Answer, ...] = ()
    """Of each node, why the pod that must be placed could or could not go there."""
    source: PodView | None = None
    """The pod that the VM runs in, when it has one and is not being moved."""
    timed: frozenset[WaitKey] = frozenset()
    """Waits whose time counts."""
    patience: float | None = None
    """Seconds until a wait is too long, if nothing happens before; None when no wait's time counts."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan depends on beside the pods."""

    matrix: MatrixView
    refusal: Refusal | None
    """Why the matrix may not be provisioned now."""
    nodes: Mapping[str, NodeView]
    policy: PolicyView = field(default_factory=PolicyView)
    waited: Mapping[WaitKey, float] = field(default_factory=dict)
    """Seconds that each wait of the last plan has lasted."""
    guest: GuestFacts = field(default_factory=GuestFacts)
    """Of the VM that runs with the matrix."""
    moving: bool = False
    """A move of the VM is not yet seen to its end, so both sides stay frozen."""
    bound: str = ""
    """Node that the VM, restarted there, is to start on; empty lets it start wherever it can."""


def plan_gate(situation: Situation, pods: Iterable[PodView]) -> GatePlan:
    """Return where the matrix is needed and which of its pods may go on."""
    ordered = sorted(pods, key=lambda pod: (not pod.node, pod.created, pod.uid))
    if not ordered:
        return GatePlan()
    mine = [pod for pod in ordered if pod.owner == ordered[0].owner]
    running = [pod for pod in mine if pod.node]
    if running:
        # A matrix that is on its way out stays whole for the VM that has it, wherever that must go.
        situation = replace(situation, matrix=replace(situation.matrix, deleting=False))
    drafts = [_judge(situation, pod, running) for pod in mine]
    others = [Wait(pod, _taken(situation, ordered[0])) for pod in ordered if pod.owner != ordered[0].owner]
    nodes = frozenset({pod.node for pod in running}.union(*(draft.nodes for draft in drafts)))
    frozen = frozenset().union(*(draft.frozen for draft in drafts))
    made = {node: shape for draft in drafts for node, shape in draft.shapes.items()}
    if situation.moving:
        frozen |= {pod.node for pod in running}
    timed = frozenset().union(*(draft.timed for draft in drafts))
    return GatePlan(
        claim=Claim(nodes, frozen, frozenset(n for n in frozen if _first_version(situation.nodes.get(n))), made),
        user=mine[0].vm_name,
        namespace=mine[0].namespace if running else "",
        actions=tuple(d.outcome for d in drafts if isinstance(d.outcome, Lift | Release | Cancel)),
        waits=(*(d.outcome for d in drafts if isinstance(d.outcome, Wait)), *others),
        answers=next((draft.answers for draft in drafts if draft.answers), ()),
        source=mine[0] if len(mine) == 1 and mine[0].node else None,
        timed=timed,
        patience=min((draft.patience for draft in drafts if draft.patience is not None), default=None),
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """What one pod adds to the plan."""

    outcome: Lift | Release | Cancel | Wait | None = None
    nodes: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    shapes: Mapping[str, Matrix] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    timed: frozenset[WaitKey] = frozenset()
    patience: float | None = None


def _judge(situation: Situation, pod: PodView, running: list[PodView]) -> _Draft:
    draft = _Draft()
    if not pod.node:
        draft = _place(situation, pod, {other.node for other in running})
    elif pod.held:
        draft = _arrived(situation, pod, running)
    elif pod.target and len(running) > 1:
        draft = _Draft(frozen=frozenset(other.node for other in running))
        if not pod.ready:
            text = "its hook sidecar does not become ready"
            refusal = Refusal(
                "TargetNotReady", f"pod {pod}", text, f"see kubectl logs {pod.name} -n {pod.namespace}"
            )
            return _impatient(situation, pod, draft, Wait(pod, refusal))
    if pod.target and isinstance(draft.outcome, Wait):
        return _impatient(situation, pod, draft, draft.outcome)
    return draft


def _impatient(situation: Situation, pod: PodView, draft: _Draft, wait: Wait) -> _Draft:
    """Give a move up whose target has waited for longer than the policy allows."""
    key, limit = (pod.uid, ""), situation.policy.limits.hold
    waited = situation.waited.get(key, 0.0)
    draft = replace(draft, timed=draft.timed | {key})
    if waited < limit:
        return replace(draft, patience=min(limit - waited, draft.patience or limit))
    text = f"the migration could not begin within {limit:g} s: {wait.refusal}"
    return replace(draft, outcome=Cancel(pod, Refusal(GIVEN_UP, f"VM {pod.vm_name}", text)))


def _taken(situation: Situation, first: PodView) -> Refusal:
    text = f"VM {first.vm_name} has it, and one VM has a matrix at a time"
    node = situation.nodes.get(first.node)
    if node is not None and not node.alive:
        text = f"VM {first.vm_name} has it on node {node.name}, which does not answer: it may still run there"
        remedy = (
            f"make sure that {node.name} is off, then kubectl taint node {node.name} "
            "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the Node"
        )
        return Refusal("NodeSilent", situation.matrix.name, text, remedy)
    return Refusal(
        "MatrixInUse", situation.matrix.name, text, "stop that VM, or give this one a matrix of its own"
    )


def _arrived(situation: Situation, pod: PodView, running: list[PodView]) -> _Draft:
    """Decide whether a target pod that runs and is held may begin its migration."""
    sources = sorted({other.node for other in running if other.uid != pod.uid})
    made = shapes(situation.matrix, sources, pod.node, situation.nodes)
    found = _stand(situation, pod.node, made)
    if found.state != "Ready" and not _settling(situation, pod.node):
        return _Draft(Wait(pod, _not_ready(pod.node, found)), shapes=made)
    sides = frozenset(other.node for other in running)
    for side in sorted(sides):
        if text := _unfrozen(situation, situation.nodes.get(side)):
            return _Draft(Wait(pod, Refusal("Freezing", f"node {side}", text)), frozen=sides, shapes=made)
    return _Draft(Release(pod), frozen=sides, shapes=made)


def _settling(situation: Situation, name: str) -> bool:
    """Tell whether nothing but the agent's answer to the freeze is missing; to thaw then would begin anew."""
    node = situation.nodes.get(name)
    if node is None or node.current:
        return False
    held = node.mdevs.get(situation.matrix.uuid)
    frozen = any(item.matrix == situation.matrix.name and item.frozen for item in node.desired)
    return frozen and held is not None and held.state == "Ready"


def _unfrozen(situation: Situation, node: NodeView | None) -> str:
    """Return why a side cannot be said to be frozen yet, the empty text when its agent has confirmed it."""
    if node is None:
        return "the node or its agent does not answer"
    if silent := node.no_answer():
        return silent.message
    shall = next((item for item in node.desired if item.matrix == situation.matrix.name), None)
    if shall is None or not shall.frozen or not node.current:
        return "its agent has not confirmed that it leaves the device as it is"
    held = node.mdevs.get(situation.matrix.uuid)
    if _first_version(node) and (held is None or held.migratable is not True):
        return "the device's attribute migratable is not set yet"
    return ""


def _first_version(node: NodeView | None) -> bool:
    return node is not None and node.live == "v1"


def _place(situation: Situation, pod: PodView, placed: set[str]) -> _Draft:
    """Choose the nodes to prepare for a pod that has none, and decide whether it may go to one of them."""
    matrix, limit = situation.matrix, situation.policy.limits.prepare
    if refusal := situation.refusal or _forbidden(matrix, pod, placed):
        return _Draft(Wait(pod, refusal))
    late = frozenset(key for key, waited in situation.waited.items() if key[0] == pod.uid and waited >= limit)
    tired = {node for _, node in late}
    nodes, policy = situation.nodes, situation.policy
    bound = "" if pod.target else situation.bound
    if bound:
        nodes = {name: node for name, node in nodes.items() if name == bound}
    answers = tuple(candidates(matrix, pod, placed, nodes, policy, tired, situation.guest))
    fit = [situation.nodes[a.node] for a in answers if a.refusal is None]
    if not fit:
        remedy = "give a node what is missing; see kubectl get apnodes"
        return _Draft(Wait(pod, nowhere("NoNode", matrix.name, answers, remedy)), answers=answers)
    best = fit[0]
    made = shapes(matrix, sorted(placed), best.name, nodes) if pod.target else {}
    chosen = _Draft(nodes=frozenset({best.name}), answers=answers, shapes=made)
    if pod.gated:
        found = _stand(situation, best.name, made)
        if found.state == "Ready":
            return replace(chosen, outcome=Lift(pod, best.name if pod.target or bound else ""))
        key = (pod.uid, best.name)
        left = limit - situation.waited.get(key, 0.0)
        wait = Wait(pod, _not_ready(best.name, found), overdue=best.name in tired)
        return replace(chosen, outcome=wait, timed=late | {key}, patience=left if left > 0 else None)
    # Let go and not placed yet. What was prepared stays; where the scheduler found no room, one more node is.
    prepared = {node.name for node in fit if any(item.matrix == matrix.name for item in node.desired)}
    further = next((node.name for node in fit if node.name not in prepared), None)
    if further is None or not (pod.unschedulable or not prepared):
        return replace(chosen, nodes=frozenset(prepared))
    key = (pod.uid, f"after {len(prepared)}")
    left = _ROOM - situation.waited.get(key, 0.0)
    if left <= 0 or not prepared:
        return replace(chosen, nodes=frozenset({*prepared, further}))
    return replace(chosen, nodes=frozenset(prepared), timed=frozenset({key}), patience=left)


def _forbidden(matrix: MatrixView, pod: PodView, placed: set[str]) -> Refusal | None:
    """Return why a VM may not have the matrix; a VM that has it keeps it, wherever it must go."""
    if placed:
        return None
    if matrix.deleting:
        return Refusal("Deleting", matrix.name, "the APMatrix is being deleted", "give the VM another matrix")
    if pod.namespace not in matrix.namespaces:
        text = f"namespace {pod.namespace} may not use it"
        return Refusal(
            "NamespaceNotAllowed", matrix.name, text, "add it to spec.allowedNamespaces of the APMatrix"
        )
    return None


def _stand(situation: Situation, node: str, made: Mapping[str, Matrix]) -> Standing:
    view, matrix = situation.nodes.get(node), situation.matrix
    found = standing(view, matrix, situation.refusal, made.get(node)) if view is not None else None
    return found or Standing(node, "Pending", "NodeSilent", "the node is not known")


def _not_ready(node: str, found: Standing) -> Refusal:
    message = found.message or "the device is being made"
    return Refusal(found.reason or "Preparing", f"node {node}", message, "")
