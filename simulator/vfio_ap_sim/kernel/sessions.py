"""Guests opening, resetting and closing an mdev (kernel-ap.md 3.6)."""

from __future__ import annotations

import errno

from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.guests import Guest
from vfio_ap_sim.kernel.mdev import Mdev
from vfio_ap_sim.kernel.tasks import Op, at_once
from vfio_ap_sim.kernel.vfio_ap import VfioAp


def open_device(driver: VfioAp, mdev: Mdev, guest: Guest) -> Op[None]:
    """Attach an mdev to a guest (V-27). Raises EPERM for its second mdev, EBUSY when another has this one."""

    def attach() -> None:
        if mdev.leaving:
            raise SysfsError(errno.ENODEV)
        if mdev.guest is not None:
            raise SysfsError(errno.EBUSY)
        if guest.has_device:
            raise SysfsError(errno.EPERM)
        mdev.guest = guest
        guest.open_device(mdev.group)
        guest.set_masks(mdev.shadow.adapters, mdev.shadow.domains, mdev.shadow.control, tell=False)

    yield from driver.locked(at_once(attach))


def close_device(driver: VfioAp, mdev: Mdev, guest: Guest) -> Op[None]:
    """Detach an mdev: the guest loses its masks and all queues are reset before anyone goes on (V-29)."""

    def detach() -> Op[None]:
        if mdev.guest is not guest:
            return
        guest.set_masks(0, 0, 0, tell=False)
        yield from driver.resetter.reset(driver.queues_of(mdev.assigned))
        mdev.guest = None
        guest.close_device()

    yield from driver.locked(detach())
    waiting, mdev.released = mdev.released, []
    for wait in waiting:
        wait.fire()


def reset_device(driver: VfioAp, mdev: Mdev) -> Op[None]:
    """Reset all queues, as a guest's reboot does (V-30)."""
    yield from driver.locked(driver.resetter.reset(driver.queues_of(mdev.assigned)))
