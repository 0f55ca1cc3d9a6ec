"""Guests opening, resetting and closing an mdev (kernel-ap.md 3.6)."""

from __future__ import annotations

import errno

from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.guests import Guest
from vfio_ap_sim.kernel.hardware import NORMAL
from vfio_ap_sim.kernel.mdev import Mdev
from vfio_ap_sim.kernel.migration.versions import open_migration
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
        mdev.migration = open_migration(driver, mdev)
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
        if mdev.migration is not None:
            mdev.migration.release()
            mdev.migration = None
        mdev.guest = None
        guest.close_device()

    yield from driver.locked(detach())
    mdev.wake()


def reset_device(driver: VfioAp, mdev: Mdev) -> Op[None]:
    """Reset all queues, as a guest's reboot does (V-30). Raises EIO when one of them does not come back in order.

    Only a reset that succeeds ends a migration as well (L-6).
    """

    def reset() -> Op[None]:
        queues = driver.queues_of(mdev.assigned)
        yield from driver.resetter.reset(queues)
        if any(driver.hardware.tapq(queue.apqn).code != NORMAL for queue in queues):
            raise SysfsError(errno.EIO)
        if mdev.migration is not None:
            mdev.migration.reset()

    yield from driver.locked(reset())
