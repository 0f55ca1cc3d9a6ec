"""Which matrices contradict each other, and which of the two stands.

A queue belongs to one guest, so two matrices must not share one on any node that both may use; what counts on a
node is the variant that is for it. A UUID names one device per node, so no two matrices share one at all. Two
matrices with the same queues on nodes that have nothing in common are fine: that is how a machine room with equal
LPARs looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vfio_ap.errors import Refusal
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap.matrix import Matrix

UUID_IN_USE = "UuidInUse"
"""Reason of a refusal: the UUID, and with it the device on every node, is another matrix's."""


def refusal_of(
    matrix: MatrixView, standing: Iterable[MatrixView], nodes: Mapping[str, NodeView]
) -> Refusal | None:
    """Return why the matrix is refused in favour of another one, or None when it stands.

    ``standing`` are the matrices that are not refused themselves; it may include this one. A matrix that is on
    its way out still counts: its queues are free only once it is gone.
    """
    if matrix.invalid is not None:
        return matrix.invalid
    rank = matrix.precedence()
    rivals = [o for o in standing if o.name != matrix.name and _contradicts(matrix, o) and o.precedence() < rank]
    for other in sorted(rivals, key=MatrixView.precedence):
        if matrix.uuid and other.uuid == matrix.uuid:
            return Refusal(
                UUID_IN_USE,
                matrix.name,
                f"UUID {matrix.uuid} belongs to APMatrix {other.name}",
                "spec.uuid never changes: delete this one, and make it again with another or without one",
            )
        if found := _meeting(matrix, other, nodes):
            node, overlap = found
            count = f"{len(overlap)} queues, the first is" if len(overlap) > 1 else "queue"
            return Refusal(
                "Overlap",
                matrix.name,
                f"overlaps APMatrix {other.name} on node {node}: {count} {overlap.first()}",
                "a queue belongs to one matrix: change the ids, or separate the nodes by spec.nodeSelector",
            )
    return None


def _contradicts(a: MatrixView, b: MatrixView) -> bool:
    same_uuid = bool(a.uuid) and a.uuid == b.uuid
    return same_uuid or any(len(mine.overlap(yours)) for mine in a.configurations for yours in b.configurations)


def _meeting(a: MatrixView, b: MatrixView, nodes: Mapping[str, NodeView]) -> tuple[str, Matrix] | None:
    """Return the first node, by name, on which both would have a queue, and the queues; None for none."""
    if any(a.selector[key] != b.selector[key] for key in a.selector.keys() & b.selector.keys()):
        return None  # no node has two values of one label: a machine room's rows are told apart without a look
    for name in sorted(n.name for n in nodes.values() if a.selects(n.labels) and b.selects(n.labels)):
        overlap = a.on(nodes[name]).overlap(b.on(nodes[name]))
        if len(overlap):
            return name, overlap
    return None
