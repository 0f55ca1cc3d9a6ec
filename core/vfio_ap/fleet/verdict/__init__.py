"""Whether a VM can move from one node to another, in which modes, and why not.

``verdict`` answers before anything begins; ``recognise`` says what a failure that happened was. Both are pure.
"""

from vfio_ap.fleet.verdict.failures import recognise
from vfio_ap.fleet.verdict.reasons import Explained, Reason
from vfio_ap.fleet.verdict.types import GuestFacts, Mode, MovePolicy, MoveVerdict
from vfio_ap.fleet.verdict.verdict import verdict

__all__ = ["Explained", "GuestFacts", "Mode", "MovePolicy", "MoveVerdict", "Reason", "recognise", "verdict"]
