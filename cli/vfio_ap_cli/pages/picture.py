"""The host behind an APNode, so that its grid can be drawn by the core's own pen. Pure.

What a status does not say (processes, single queues' health) is left empty here, and nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vfio_ap.errors import RefusedError
from vfio_ap.host import grid
from vfio_ap.host.masks import HostMasks
from vfio_ap.host.view import GUEST_DRIVER, HOST_DRIVER, AdapterView, HostView, MdevView, QueueView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_api.apnode import APNodeStatus, MdevStatus


def host_view(status: APNodeStatus) -> HostView:
    """Return the host that a status tells of."""
    queues: dict[Apqn, QueueView] = {}
    for adapter in status.adapters:
        in_use = ids(adapter.in_use)
        for text, driver in ((adapter.host, HOST_DRIVER), (adapter.guest, GUEST_DRIVER), (adapter.driverless, "")):
            for domain in ids(text):
                word = "in use" if driver == GUEST_DRIVER and domain in in_use else ""
                queues[Apqn(adapter.id, domain)] = QueueView(driver=driver, status=word)
    adapters = {a.id: AdapterView(a.id, a.type) for a in status.adapters}
    return HostView(
        present=Matrix(IdSet.from_ids(adapters), ids(status.usage_domains), ids(status.control_domains)),
        masks=HostMasks(ids(status.masks.adapters), ids(status.masks.domains)),
        adapters=adapters,
        queues=dict(sorted(queues.items())),
        # No holders: the legend names the VM instead of a process
        mdevs={mdev.uuid: MdevView(mdev.uuid, _held(mdev), holders=()) for mdev in status.mdevs},
    )


def drawn(status: APNodeStatus, users: Mapping[str, str], width: int) -> str:
    """Return the grid of a node, with its legend; ``users`` has, by UUID, the VM that has a device."""
    names = {}
    for mdev in status.mdevs:
        user = users.get(mdev.uuid) or ("a guest" if mdev.in_use else "")
        names[mdev.uuid] = (mdev.matrix or mdev.state.lower()) + (f"  in use by {user}" if user else "")
    return grid.render(host_view(status), width=min(width, 120), names=names)


def _held(mdev: MdevStatus) -> Matrix:
    return Matrix(ids(mdev.adapters), ids(mdev.domains), ids(mdev.control_domains))


def ids(text: str) -> IdSet:
    """Return a set of ids; a text that is none is no ids."""
    try:
        return IdSet.parse(text)
    except RefusedError:
        return IdSet()
