"""Moves of VMs with a matrix: what each is, what it is doing, and how it ended."""

from vfio_ap.fleet.moves.restart import restarted
from vfio_ap.fleet.moves.steps import asked, begun, followed, lingering, refused
from vfio_ap.fleet.moves.types import FINAL, MigrationView, MoveStatus, MoveView, Surroundings

__all__ = [
    "FINAL",
    "MigrationView",
    "MoveStatus",
    "MoveView",
    "Surroundings",
    "asked",
    "begun",
    "followed",
    "lingering",
    "refused",
    "restarted",
]
