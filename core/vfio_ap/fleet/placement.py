"""What each node shall hold, and how each matrix stands on each node.

Both are functions of matrices and nodes as they are now; nothing is remembered between two calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.conflicts import UUID_IN_USE
from vfio_ap.fleet.views import Desired, HeldMdev, MatrixView, NodeView, Placement
from vfio_ap.matrix import Matrix

_AS_THE_MATRIX_SAYS: Mapping[str, Matrix] = {}


@dataclass(frozen=True, slots=True)
class Standing:
    """One matrix on one node."""

    node: str
    state: str
    """``Ready``, ``Available``, ``Pending``, ``Failed`` or ``Refused``."""
    reason: str = ""
    message: str = ""
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What of the nodes is held for the VM that has a matrix, or is about to."""

    nodes: frozenset[str] = frozenset()
    """Nodes that shall hold the device for it."""
    frozen: frozenset[str] = frozenset()
    """Those where it must not change: a move is in flight."""
    migratable: frozenset[str] = frozenset()
    """Those whose kernel must be told that the device may move."""
    shapes: Mapping[str, Matrix] = field(default_factory=dict)
    """What the device holds on targets where that is not what the matrix says (``shape_for``)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that do not hold a matrix, may, and are alike in all that matters to it."""

    like: NodeView
    """Any one of them."""
    names: tuple[str, ...]


def standings(
    matrix: MatrixView,
    refusal: Refusal | None,
    holders: Iterable[NodeView],
    groups: Iterable[Group],
    guard: Refusal | None = None,
    shapes: Mapping[str, Matrix] = _AS_THE_MATRIX_SAYS,
) -> tuple[list[Standing], int]:
    """Return how the matrix stands on each node of which there is something to say, and how many can have it.

    ``holders`` are the nodes with the matrix in their spec or with its device; the second value counts nodes that
    are merely available. Under a ``guard`` no node is. ``shapes`` are those of a Claim.
    """
    looked = (standing(node, matrix, refusal, shapes.get(node.name)) for node in holders)
    found = [item for item in looked if item is not None]
    available = 0
    for group in groups:
        item = standing(group.like, matrix, refusal)
        if item is not None and refusal is None and guard is not None:
            item = Standing(item.node, "Pending", guard.reason, str(guard))
        if item is not None and item.state == "Available":
            available += len(group.names)
        elif item is not None:
            found += [replace(item, node=name) for name in group.names]
    return sorted(found, key=lambda item: item.node), available


def desired_mdevs(
    node: NodeView,
    matrices: Iterable[MatrixView],
    refusals: Mapping[str, Refusal | None],
    claims: Mapping[str, Claim],
    guard: Refusal | None = None,
) -> tuple[Desired, ...]:
    """Return the mediated devices that the node shall hold, by UUID.

    ``claims`` has, by matrix, what pods need; what a pod needs stays, whatever becomes of the rest, and where a
    move is in flight it stays just as it is.
    Under a ``guard``, why nothing may be provisioned now, nothing new is made and nothing is changed.
    A matrix that is refused, be it new or edited, changes nothing: what the node holds of it stays as it is. A
    matrix on its way out stays where a guest uses it, until the guest is gone; so does one that is no longer
    placed here.
    """
    wanted: dict[str, Desired] = {}
    before = {item.matrix: item for item in node.desired}
    for matrix in matrices:
        claim = claims.get(matrix.name, Claim())
        refusal = refusals.get(matrix.name) or guard
        item = _desired_of(node, matrix, refusal, before.get(matrix.name), claim)
        if item is not None:
            wanted[item.uuid] = item
    return tuple(wanted[uuid] for uuid in sorted(wanted))


def _desired_of(
    node: NodeView, matrix: MatrixView, refusal: Refusal | None, before: Desired | None, claim: Claim
) -> Desired | None:
    claimed, selected = node.name in claim.nodes, matrix.selects(node.labels)
    if before is not None and node.name in claim.frozen:
        return replace(before, granted=True, frozen=True, migratable=node.name in claim.migratable)
    if not claimed and (matrix.deleting or not selected or (refusal is None and _on_demand(matrix))):
        return _withdrawn(node, before)
    if refusal is not None or not matrix.uuid or not selected:
        return _thawed(before)
    if not node.reported or node.limit_exceeded(matrix.on(node)):
        return _thawed(before)
    configuration = claim.shapes.get(node.name) or matrix.on(node)
    return Desired(matrix.uuid, matrix.name, configuration, granted=True, adopt=matrix.adopt)


def _on_demand(matrix: MatrixView) -> bool:
    return bool(matrix.uuid) and matrix.placement is Placement.ON_DEMAND


def _thawed(before: Desired | None) -> Desired | None:
    return replace(before, frozen=False, migratable=False) if before is not None else None


def _withdrawn(node: NodeView, before: Desired | None) -> Desired | None:
    """Keep a device that a guest uses, no longer offered to anybody else; drop any other."""
    if before is None:
        return None
    held = node.mdevs.get(before.uuid)
    if held is None or not held.in_use:
        return None
    return Desired(before.uuid, before.matrix, before.configuration, granted=False, adopt=before.adopt)


def standing(
    node: NodeView, matrix: MatrixView, refusal: Refusal | None, shape: Matrix | None = None
) -> Standing | None:
    """Return how the matrix stands on the node, or None where it has no business.

    ``shape`` is what the device shall hold there for a move, where that is not what the matrix says.
    """
    held = node.mdevs.get(matrix.uuid) if matrix.uuid else None
    others = refusal is not None and refusal.reason == UUID_IN_USE  # so the device of this UUID is theirs
    if held is not None and (held.state == "Foreign" or others):
        held = None
    in_use = held is not None and held.in_use
    if not matrix.selects(node.labels) and held is None:
        return None
    if refusal is not None:
        return Standing(node.name, "Refused", refusal.reason, refusal.message, in_use)
    if not node.reported:
        text = "the agent has not reported yet; see its pod on the node"
        return Standing(node.name, "Pending", "NotReported", text, in_use)
    if above := node.limit_exceeded(matrix.on(node)):
        return Standing(node.name, "Refused", above.reason, f"{above.message}; {above.remedy}", in_use)
    if not node.alive:
        text = "the node or its agent does not answer; what is known of it is history"
        return Standing(node.name, "Pending", "NodeSilent", text, in_use)
    if node.unready is not None:
        text = f"the node is not ready, and what is known of it may be old: {node.unready.message}"
        return Standing(node.name, "Pending", "NodeNotReady", text, in_use)
    shall = next((item for item in node.desired if item.matrix == matrix.name), None)
    if held is None and shall is None:
        return _without(node, matrix)
    return _with(node, matrix, held, shall, shape or matrix.on(node))


def _without(node: NodeView, matrix: MatrixView) -> Standing:
    if matrix.placement is Placement.EVERYWHERE:
        return Standing(node.name, "Pending", "NotRequested", "not yet asked of the node's agent")
    if absent := node.absent(matrix.on(node)):
        return Standing(node.name, "Pending", absent.reason, f"{absent.message}; {absent.remedy}")
    return Standing(node.name, "Available", *_in_advance(node, matrix.on(node)))


def _in_advance(node: NodeView, whole: Matrix) -> tuple[str, str]:
    """Return reason and message for ids that the device holds, or would hold, before the node has them."""
    text = node.missing_text(whole)
    return ("OverProvisioned", f"the node has no {text} yet; a guest gets the rest") if text else ("", "")


def _with(
    node: NodeView, matrix: MatrixView, held: HeldMdev | None, shall: Desired | None, whole: Matrix
) -> Standing:
    if held is None:
        return Standing(node.name, "Pending", "Requested", "asked of the node's agent, not yet read back")
    if shall is None or matrix.deleting:
        return Standing(node.name, "Pending", "Leaving", held.message or "on its way out", held.in_use)
    if held.state in ("Failed", "Incomplete"):
        return Standing(node.name, "Failed", held.reason, held.message, held.in_use)
    if held.state != "Ready" or held.configuration != shall.configuration or not node.current:
        reason = held.reason or "Applying"
        return Standing(node.name, "Pending", reason, held.message, held.in_use)
    if shall.granted and matrix.name not in node.allocatable:
        text = "kubelet does not publish the resource yet"
        return Standing(node.name, "Pending", "NotAllocatable", text, held.in_use)
    if shall.configuration != whole:
        if shall.frozen:
            text = "an edit waits until the move in flight is over"
            return Standing(node.name, "Ready", "EditWaits", text, held.in_use)
        return Standing(node.name, "Pending", "Requested", "an edit is not asked of the agent yet", held.in_use)
    return Standing(node.name, "Ready", *_in_advance(node, shall.configuration), held.in_use)
