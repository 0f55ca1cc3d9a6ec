"""One move as it is asked about: who, from where, to where, and what would have to arrive. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.verdict.attributes import Semantics
from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.fleet.verdict.types import GuestFacts, MovePolicy
from vfio_ap.fleet.views import HeldMdev, MatrixView, NodeView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix


@dataclass(frozen=True, slots=True)
class Said:
    """One finding."""

    reason: Reason
    refusal: Refusal
    mild: bool = False
    """A warning, whatever the reason is elsewhere."""


def say(reason: Reason, subject: str, message: str, *, mild: bool = False) -> Said:
    """Return a finding; one that closes no mode is a warning."""
    return Said(reason, reason.refuse(subject, message), mild or not reason.closes)


class Question:
    """One move: what was given, and what follows from it."""

    __slots__ = (
        "alike",
        "device",
        "guest",
        "held",
        "here",
        "leaves",
        "matrix",
        "moving",
        "needed",
        "policy",
        "prepared",
        "semantics",
        "source",
        "target",
        "there",
    )

    def __init__(
        self,
        matrix: MatrixView,
        source: NodeView,
        target: NodeView,
        policy: MovePolicy,
        guest: GuestFacts,
        prepared: bool,
    ) -> None:
        self.matrix, self.source, self.target = matrix, source, target
        self.policy, self.guest = policy, guest
        self.prepared = prepared
        self.device = target.mdevs.get(matrix.uuid)
        """The target's, if it has one."""
        self.here, self.there = matrix.on(source), matrix.on(target)
        self.alike = self.here == self.there
        """The guest keeps its ids."""
        self.held = source.mdevs.get(matrix.uuid)
        self.moving = in_guest(self.held, source)
        """What the guest has; None when that is not known."""
        known = self.moving is not None and len(self.moving) > 0
        self.needed = self.moving if self.alike and known and self.moving is not None else self.there
        """What the guest must find on the target: what it has now, where it keeps its ids."""
        self.leaves = self.needed if self.alike else self.here
        """The queues of the source that those stand for."""
        versions = {source.live, target.live} & {"v1", "v4"}
        self.semantics = Semantics.COMPARES if versions == {"v1"} else Semantics.TAKES_OVER

    @property
    def mdev(self) -> str:
        """The device, as the subject of a sentence."""
        return f"mdev {self.matrix.uuid}"


def in_guest(held: HeldMdev | None, node: NodeView) -> Matrix | None:
    """Return what a guest has, or would have, of a device; None when that is not known.

    ``Ready`` is said only of a device of which a guest gets every queue that the node has.
    """
    if held is None or held.state == "Foreign":
        return None
    if held.guest is not None:
        return held.guest
    if held.state != "Ready":
        return None
    what, there = held.configuration, node.present
    return Matrix(
        what.adapters & there.adapters,
        what.domains & there.domains,
        what.control_domains & there.control_domains,
    )


def lowest(ids: IdSet) -> int:
    """Return the smallest id of a set that is not empty."""
    return (ids.bits & -ids.bits).bit_length() - 1
