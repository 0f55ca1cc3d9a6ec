"""One reading of the whole host: few batches, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.ops import HostOps
from vfio_ap.host.view import HostView, KernelView
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.bus import Bus, bus_ops, parse_sysinfo, queue_control
from vfio_ap_agent.inventory.files import Changed, Files
from vfio_ap_agent.inventory.holders import look_for_holders
from vfio_ap_agent.inventory.mdevs import Mdevs, People, listing_ops

_LOG = logging.getLogger(__name__)
_TRIES = 5


async def read_host(host: HostOps, trusted: Collection[str] = ()) -> HostView:
    """Return the host as it is; ``trusted`` are devices of ours, which we gave no more queues than can be shown.

    Raises RefusedError: NoApBus, what the kernel said no to, nonsense, or InventoryUnstable when the host kept
    changing; TimeoutError and ConnectionError as ``HostOps.run``.
    """
    changed = ""
    for _ in range(_TRIES):
        try:
            return await _read_once(host, trusted)
        except Changed as change:
            changed = str(change)
            _LOG.debug("the host changed while it was read: %s", changed)
    text = f"changed {_TRIES} times while it was read, lately {changed}"
    raise RefusedError(Refusal("InventoryUnstable", "host", text, "it is read again soon"))


async def _read_once(host: HostOps, trusted: Collection[str]) -> HostView:
    files = Files(host)
    await files.fetch([*bus_ops(), *listing_ops()])
    bus, mdevs = Bus(files), Mdevs(files)
    limits = bus.maximum("adapter"), bus.maximum("domain")
    await files.fetch([*bus.driver_ops(), *mdevs.attribute_ops()])
    bus.learn_drivers()
    mdevs.learn_members()
    for adapter in bus.adapters:
        # One at a time, which bounds the memory that a reading takes at its peak.
        part = Files(host)
        await part.fetch(bus.device_ops(adapter))
        await part.fetch(bus.status_ops(adapter))
        bus.take(part, adapter)
    queues = bus.queue_views
    await files.fetch(mdevs.matrix_ops(bus.masks, limits, trusted))
    people = await look_for_holders(files) if mdevs.all else People({})
    view = HostView(
        machine=parse_sysinfo(files.text(paths.SYSINFO) or ""),
        kernel=KernelView(
            release=(files.text(paths.RELEASE) or "").strip(),
            max_adapter=limits[0],
            max_domain=limits[1],
            features=(*mdevs.tokens, *bus.features()),
            vfio_ap=mdevs.loaded,
            ap_config=mdevs.ap_config,
            live_migration=mdevs.live_migration,
            driver_override=bus.driver_override,
            queue_control=queue_control(queues.values()),
        ),
        present=bus.present,
        masks=bus.masks,
        adapters=bus.adapter_views,
        queues=queues,
        mdevs=mdevs.views(bus, queues, people),
        bindings=bus.bindings,
        boot=(files.text(paths.BOOT_ID) or "").strip(),
    )
    await _stood_still(host, files, bus)
    return view


async def _stood_still(host: HostOps, files: Files, bus: Bus) -> None:
    """Raise Changed unless what was listed first still is so."""
    again = Files(host)
    await again.fetch(bus.snapshot_ops())
    for op in bus.snapshot_ops():
        if files.result(op) != again.result(op):
            raise Changed(op.path)
