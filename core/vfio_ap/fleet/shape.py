"""What a target's device holds for a move under the first version of the kernel's migration code.

That version compares the guests' matrices, so the target must give what the guest has, no more: where queues are
kept from the guest on the source, the target's device is made without them, and gets the rest after the move
(kernel-ap.md 4.3). Later versions take the source's configuration over by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vfio_ap.fleet.verdict.question import in_guest
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap.matrix import Matrix


def shapes(
    matrix: MatrixView, sources: Iterable[str], target: str, nodes: Mapping[str, NodeView]
) -> dict[str, Matrix]:
    """Return the shape of a target by its name, as a Claim has it; empty where the matrix's own word holds."""
    found = (shape_for(matrix, nodes.get(source), nodes.get(target)) for source in sources)
    return next(({target: shape} for shape in found if shape is not None), {})


def shape_for(matrix: MatrixView, source: NodeView | None, target: NodeView | None) -> Matrix | None:
    """Return what the target's device must hold, None where that is just what the matrix says for it."""
    if source is None or target is None or source.live != "v1" or matrix.on(source) != matrix.on(target):
        return None
    moving, whole = in_guest(source.mdevs.get(matrix.uuid), source), matrix.on(target)
    if moving is None or not len(moving) or (moving.adapters, moving.domains) == (whole.adapters, whole.domains):
        return None
    return moving
