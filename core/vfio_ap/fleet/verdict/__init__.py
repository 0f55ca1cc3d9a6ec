"""Whether a VM can move from one node to another, in which modes, and why not.

``verdict`` answers before a move begins, ``keys_at_start`` before a VM starts; ``recognise`` says what a failure
that happened was. All are pure.
"""

from vfio_ap.fleet.verdict.failures import recognise
from vfio_ap.fleet.verdict.keys import keys_at_start
from vfio_ap.fleet.verdict.reasons import Explained, Reason
from vfio_ap.fleet.verdict.types import GuestFacts, Mode, MovePolicy, MoveVerdict
from vfio_ap.fleet.verdict.verdict import verdict

__all__ = [
    "Explained",
    "GuestFacts",
    "Mode",
    "MovePolicy",
    "MoveVerdict",
    "Reason",
    "keys_at_start",
    "recognise",
    "verdict",
]
