"""What a target's device holds for a live move: what the guest has, where that is not what the matrix says.

The first version of the kernel's migration code compares the guests' matrices, so the target must give what the
guest has, no more. Later versions replace the target's assignment by what the guest has (L-11), so it is made so
beforehand: then what is read back after the move is what was asked for, and anything else is somebody's doing. In
both cases the rest, queues that were kept from the guest on the source or that no machine gives yet, is asked for
after the move, as an edit (kernel-ap.md 4.3).
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
    if source is None or target is None or source.live not in ("v1", "v4"):
        return None
    whole = matrix.on(target)
    moving = in_guest(source.mdevs.get(matrix.uuid), source)
    if matrix.on(source) != whole or moving is None or not len(moving) or moving == whole:
        return None
    return moving
