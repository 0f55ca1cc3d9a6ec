"""The placement gate: which nodes a matrix is prepared on, and which pods may go.

A launcher pod that asks for a matrix is created with a scheduling gate. It is lifted once a node that the pod may
run on holds the device, read back, and kubelet publishes it. A first boot is not pinned, the resource places it; a
migration's target is. One VM has a matrix at a time. Everything here is a function of what is there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vfio_ap.errors import Refusal
from vfio_ap.fleet.compat import refusal_of_move
from vfio_ap.fleet.placement import Standing, standing
from vfio_ap.fleet.scheduling import Constraints
from vfio_ap.fleet.views import MatrixView, NodeView

HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class PodView:
    """One launcher pod that asks for a matrix and has not ended."""

    namespace: str
    name: str
    uid: str
    matrix: str
    owner: str
    """UID of its VMI."""
    vm: str = ""
    """Name of its VMI, for people."""
    created: str = ""
    node: str = ""
    """Where it was scheduled, empty while it was not."""
    gated: bool = False
    held: bool = False
    """Its hook sidecar keeps a migration from starting."""
    target: bool = False
    """It is a migration's target."""
    unschedulable: bool = False
    """The scheduler found no node for it."""
    constraints: Constraints = field(default_factory=Constraints)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def vm_name(self) -> str:
        """Return namespace and name of its VM."""
        return f"{self.namespace}/{self.vm or self.name}"


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
class Wait:
    """A pod that must wait, and for what."""

    pod: PodView
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class GatePlan:
    """What to do for the pods of one matrix."""

    nodes: frozenset[str] = frozenset()
    """Nodes that shall hold the device for them."""
    user: str = ""
    """Namespace and name of the VM that has the matrix, empty when none has."""
    actions: tuple[Lift | Release, ...] = ()
    waits: tuple[Wait, ...] = ()
    source: PodView | None = None
    """The pod that the VM runs in, when it has one and is not being moved."""


def plan_gate(
    matrix: MatrixView, refusal: Refusal | None, pods: Iterable[PodView], nodes: Mapping[str, NodeView]
) -> GatePlan:
    """Return where the matrix is needed and which of its pods may go on."""
    ordered = sorted(pods, key=lambda pod: (not pod.node, pod.created, pod.uid))
    if not ordered:
        return GatePlan()
    owner = ordered[0].owner
    mine = [pod for pod in ordered if pod.owner == owner]
    waits = [Wait(pod, _taken(matrix, mine[0])) for pod in ordered if pod.owner != owner]
    placed = {pod.node for pod in mine if pod.node}
    needed = set(placed)
    actions: list[Lift | Release] = []
    for pod in mine:
        outcome: Lift | Release | Wait | None = None
        if not pod.node:
            chosen, outcome = _place(matrix, refusal, pod, placed, nodes)
            needed |= chosen
        elif pod.held:
            outcome = _arrived(matrix, refusal, pod, nodes)
        match outcome:
            case Lift() | Release():
                actions.append(outcome)
            case Wait():
                waits.append(outcome)
    still = mine[0] if len(mine) == 1 and mine[0].node else None
    return GatePlan(frozenset(needed), mine[0].vm_name, tuple(actions), tuple(waits), still)


def _taken(matrix: MatrixView, first: PodView) -> Refusal:
    return Refusal(
        "MatrixInUse",
        matrix.name,
        f"VM {first.vm_name} has it, and one VM has a matrix at a time",
        "stop that VM, or give this one a matrix of its own",
    )


def _arrived(
    matrix: MatrixView, refusal: Refusal | None, pod: PodView, nodes: Mapping[str, NodeView]
) -> Release | Wait:
    """Decide whether a target pod that runs and is held may begin its migration."""
    found = _stand(matrix, refusal, nodes.get(pod.node))
    if found.state == "Ready":
        return Release(pod)
    return Wait(pod, _not_ready(pod.node, found))


def _place(
    matrix: MatrixView,
    refusal: Refusal | None,
    pod: PodView,
    placed: set[str],
    nodes: Mapping[str, NodeView],
) -> tuple[set[str], Lift | Wait | None]:
    """Choose the nodes to prepare for a pod that has none, and decide whether it may go to one of them."""
    if refusal is not None:
        return set(), Wait(pod, refusal)
    fit, reasons = candidates(matrix, pod, placed, nodes)
    if not fit:
        return set(), Wait(pod, _nowhere(matrix, reasons))
    best = fit[0]
    if pod.gated:
        found = _stand(matrix, None, best)
        if found.state != "Ready":
            return {best.name}, Wait(pod, _not_ready(best.name, found))
        return {best.name}, Lift(pod, best.name if pod.target else "")
    # Let go and not placed yet. What was prepared stays; where the scheduler found no room, one more node is.
    prepared = {node.name for node in fit if any(item.matrix == matrix.name for item in node.desired)}
    further = next((node.name for node in fit if node.name not in prepared), None)
    if further is not None and (pod.unschedulable or not prepared):
        prepared.add(further)
    return prepared, None


def candidates(
    matrix: MatrixView, pod: PodView, placed: set[str], nodes: Mapping[str, NodeView]
) -> tuple[list[NodeView], list[str]]:
    """Return nodes that could take the pod, the best first, and why the others cannot."""
    fit: list[tuple[tuple[bool, str], NodeView]] = []
    reasons: list[str] = []
    for name, node in sorted(nodes.items()):
        why = _excluded(matrix, pod, node)
        if not why and pod.target:
            why = immovable(matrix, placed, node, nodes, prepared=matrix.uuid in node.mdevs)
        if why:
            reasons.append(f"{name}: {why}")
            continue
        fit.append(((matrix.uuid not in node.mdevs, name), node))
    fit.sort(key=lambda item: item[0])
    return [node for _, node in fit], reasons


def immovable(
    matrix: MatrixView, placed: set[str], node: NodeView, nodes: Mapping[str, NodeView], *, prepared: bool
) -> str:
    """Return why a guest that runs on the placed nodes cannot move to this one, the empty text if it can."""
    if node.name in placed:
        return "the VM runs there now"
    for name in sorted(placed):
        source = nodes.get(name)
        if source is None:
            return f"node {name}, where the VM runs, is not known"
        if refusal := refusal_of_move(matrix.matrix, source, node, prepared=prepared):
            return str(refusal)
    return ""


def _excluded(matrix: MatrixView, pod: PodView, node: NodeView) -> str:
    if not matrix.selects(node.labels):
        return "spec.nodeSelector of the matrix excludes it"
    if not node.alive:
        return "the node or its agent does not answer"
    for found in (node.limit_exceeded(matrix.matrix), node.absent(matrix.matrix)):
        if found is not None:
            return found.message
    held = node.mdevs.get(matrix.uuid)
    if held is not None and (held.in_use or held.state in ("Failed", "Incomplete", "Foreign")):
        return held.message or (
            "a guest there uses the device" if held.in_use else f"the device there is {held.state}"
        )
    return pod.constraints.refusal(node.name, node.labels, node.taints)


def _stand(matrix: MatrixView, refusal: Refusal | None, node: NodeView | None) -> Standing:
    found = standing(node, matrix, refusal) if node is not None else None
    return found or Standing(node.name if node else "", "Pending", "NodeSilent", "the node is not known")


def _not_ready(node: str, found: Standing) -> Refusal:
    message = found.message or "the device is being made"
    return Refusal(found.reason or "Preparing", f"node {node}", message, "")


def _nowhere(matrix: MatrixView, reasons: Sequence[str]) -> Refusal:
    shown = "; ".join(reasons[:5]) or "no node has an AP bus"
    more = f" and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return Refusal("NoNode", matrix.name, f"no node can take it: {shown}{more}", "see kubectl get apnodes")
