"""Why a device is not made, changed or removed: the planner's refusals in words."""

from __future__ import annotations

from vfio_ap.errors import Refusal
from vfio_ap.host.release import HOST_RESERVED
from vfio_ap.host.view import PAGE_QUEUES, HostView, MdevView
from vfio_ap.host.wish import WantedMdev
from vfio_ap.matrix import Apqn, Matrix

FROZEN = "Frozen"
"""Reason of everything that waits for the end of a move."""


def frozen(uuid: str) -> Refusal:
    """Say why a device is left as it is."""
    return Refusal(FROZEN, uuid, "is left as it is while a move is in flight", "it is done after the move")


def held_still(apqn: Apqn, uuid: str) -> Refusal:
    """Say why a queue does not change hands."""
    text = f"is left where it is: a move of {uuid} is in flight"
    return Refusal(FROZEN, str(apqn), text, "it is done after the move")


def cannot_pass(uuid: str) -> Refusal:
    """Say why the queues of a device cannot leave the host now, although they could without a move."""
    text = "its queues cannot leave the host now: one that a move in flight holds still would leave along"
    return Refusal(FROZEN, uuid, text, "it is done after the move")


def unreadable(mdev: MdevView) -> Refusal:
    """Say that what a device holds is unknown, and so is what is free."""
    text = f"may hold more than {PAGE_QUEUES} queues, which this kernel cannot show safely"
    return Refusal("MatrixUnreadable", mdev.uuid, text, "remove it, or use a kernel with ap_config")


def taken(apqn: Apqn, by: str, *, foreign: bool) -> Refusal:
    """Say who has the queue."""
    text = f"is in {'foreign mdev' if foreign else 'mdev'} {by}"
    return Refusal("QueueTaken", str(apqn), text, "take the queue out of one of the two")


def reserved(apqn: Apqn) -> Refusal:
    """Say that a queue is asked for twice."""
    return Refusal(
        HOST_RESERVED, str(apqn), "is wanted and reserved for the host", "take it out of one of the two"
    )


def in_use(mdev: MdevView) -> Refusal:
    """Say who uses it, or that nobody knows."""
    if mdev.in_use:
        return Refusal("InUse", mdev.uuid, f"is in use by {mdev.user}", "stop the VM or unplug the device first")
    return Refusal(
        "IdlenessUnproven",
        mdev.uuid,
        f"cannot be proven idle: its user is {mdev.user}",
        "run the agent in the host's PID namespace",
    )


def cannot_adopt(wanted: WantedMdev, found: Matrix) -> Refusal | None:
    """Say why a device of somebody else is not taken over, or nothing."""
    if not wanted.adopt:
        return Refusal(
            "ForeignMdev", wanted.uuid, "was made by somebody else", "remove it, or ask for its adoption"
        )
    if found != wanted.matrix:
        return Refusal(
            "AdoptionDiffers",
            wanted.uuid,
            f"holds {_full(found)}, wanted is {_full(wanted.matrix)}",
            "only an equal mdev is adopted",
        )
    return None


def _full(matrix: Matrix) -> str:
    return f"{matrix} with control domains {matrix.control_domains or 'none'}"


def out_of_range(uuid: str, target: Matrix, view: HostView) -> Refusal | None:
    """Say which part the kernel would never take, or nothing (V-21, V-12)."""
    for what, ids, maximum in (
        ("adapter", target.adapters, view.kernel.max_adapter),
        ("domain", target.domains | target.control_domains, view.kernel.max_domain),
    ):
        if ids.highest() > maximum:
            return Refusal(
                "IdAboveMaximum",
                uuid,
                f"{what} {ids.highest()} is above this host's maximum of {maximum}",
                "take it out of the matrix",
            )
    if not view.kernel.ap_config and len(target) > PAGE_QUEUES:
        return Refusal(
            "TooManyQueues",
            uuid,
            f"holds {len(target)} queues; this kernel can show {PAGE_QUEUES} safely",
            "use a kernel with ap_config",
        )
    return None


def would_filter(apqn: Apqn, view: HostView) -> Refusal:
    """Say what a running guest would lose (V-23)."""
    queue = view.queues.get(apqn)
    state = "does not exist" if queue is None else f"is with {queue.driver or 'no driver'}"
    return Refusal(
        "WouldFilter",
        str(apqn),
        f"{state}, so the change would take adapter {apqn.adapter} from the running guest",
        "bind the queue to vfio_ap first, or leave it out",
    )
