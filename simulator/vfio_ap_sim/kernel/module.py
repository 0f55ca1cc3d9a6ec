"""Loading and unloading vfio_ap, with the uevents in the order in which the real kernel sends them."""

from __future__ import annotations

from vfio_ap_sim.kernel.feeds import INFO, Uevents
from vfio_ap_sim.kernel.mdevs import Mdevs
from vfio_ap_sim.kernel.tasks import Op

_MATRIX = "/devices/vfio_ap/matrix"
_DRIVER = {"DRIVER": "vfio_ap"}


def load(uevents: Uevents, mdevs: Mdevs) -> Op[None]:
    """Register the driver: it takes every driverless queue that it may have (B-18)."""
    driver = mdevs.driver
    uevents.send("add", "/bus/matrix", "bus")
    uevents.send("add", _MATRIX, "matrix")
    uevents.send("bind", _MATRIX, "matrix", _DRIVER)
    uevents.send("add", "/bus/matrix/drivers/vfio_ap", "drivers")
    yield from driver.bus.register(driver)
    uevents.send("add", "/bus/mdev/drivers/vfio_ap_mdev", "drivers")
    uevents.send("change", _MATRIX, "matrix", {"MDEV_STATE": "registered"}, _DRIVER)
    driver.log.write(INFO, "vfio_ap matrix: MDEV: Registered")
    uevents.send("add", "/module/vfio_ap", "module")


def users(mdevs: Mdevs) -> list[str]:
    """Return the mdevs that guests have open; each holds the module."""
    return [mdev.uuid for mdev in mdevs.by_uuid.values() if mdev.guest is not None]


def unload(uevents: Uevents, mdevs: Mdevs) -> Op[None]:
    """Remove all mdevs and leave the queues driverless (V-37). The caller has seen that ``users`` is empty."""
    driver = mdevs.driver
    driver.log.write(INFO, "vfio_ap matrix: MDEV: Unregistering")
    for mdev in tuple(mdevs.by_uuid.values()):
        yield from mdevs.remove(mdev)
    uevents.send("change", _MATRIX, "matrix", {"MDEV_STATE": "unregistered"}, _DRIVER)
    uevents.send("remove", "/bus/mdev/drivers/vfio_ap_mdev", "drivers")
    yield from driver.bus.unregister(driver)
    uevents.send("unbind", _MATRIX, "matrix")
    uevents.send("remove", "/bus/matrix/drivers/vfio_ap", "drivers")
    uevents.send("remove", _MATRIX, "matrix")
    uevents.send("remove", "/bus/matrix", "bus")
    uevents.send("remove", "/module/vfio_ap", "module")
