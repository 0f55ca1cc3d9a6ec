"""What may be changed about a device that a guest is using. Pure.

Two ways lead to a queue lost by a running guest without anybody having asked for it: writing a configuration
over one that others changed (a live migration does that too, L-11), and growing a matrix over a queue that is
not with vfio_ap, for which the kernel drops the whole adapter (V-23, V-26).
"""

from __future__ import annotations

from vfio_ap.errors import Refusal
from vfio_ap.host.view import GUEST_DRIVER, HostView, MdevView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix


def lost(old: Matrix, new: Matrix) -> dict[int, IdSet]:
    """Return the queues that the old configuration has and the new one has not, by adapter."""
    if not old.domains:
        return {}
    result = {}
    for adapter in old.adapters:
        domains = old.domains - new.domains if adapter in new.adapters else old.domains
        if domains:
            result[adapter] = domains
    return result


def refuse_change_in_use(mdev: MdevView, target: Matrix, told: Matrix | None) -> Refusal | None:
    """Return why a device in use is not brought to the target, or None.

    ``told`` is the configuration that we gave it last: only queues that were in it may go, because only their
    going was asked for.
    """
    found = mdev.matrix or Matrix()
    remedy = "it is repaired once nothing uses it"
    if told is None or target == told:
        text = f"was changed by somebody else to {found} while {mdev.user} uses it"
        return Refusal("ForeignChange", mdev.uuid, text, remedy)
    for adapter, domains in lost(found, target).items():
        untold = domains - (told.domains if adapter in told.adapters else IdSet())
        if untold:
            queue = Apqn(adapter, next(iter(untold)))
            text = f"would lose queue {queue}, which somebody else gave it and which {mdev.user} may use"
            return Refusal("ForeignChange", mdev.uuid, text, remedy)
    return None


def unbound_under_guest(view: HostView, mdev: MdevView, target: Matrix) -> list[Apqn]:
    """Return queues for whose sake the kernel would take an adapter from the guest under the new matrix.

    The kernel considers what the machine gives this host only (3.5 step 1). What the guest has now is taken to
    be everything assigned where the kernel could not show it.
    """
    has = (mdev.guest or mdev.matrix or Matrix()).adapters & target.adapters & view.present.adapters
    domains = target.domains & view.present.domains
    bound = view.by_driver().get(GUEST_DRIVER, {})
    return [Apqn(adapter, d) for adapter in has for d in domains - bound.get(adapter, IdSet())]
