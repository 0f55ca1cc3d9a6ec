"""Which version of migration a kernel has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfio_ap_sim.kernel.migration.device import MigrationDevice
from vfio_ap_sim.kernel.migration.v1 import FirstVersion
from vfio_ap_sim.kernel.migration.v4 import LaterSeries
from vfio_ap_sim.kernel.profile import Migration

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.mdev import Mdev
    from vfio_ap_sim.kernel.vfio_ap import VfioAp


def open_migration(driver: VfioAp, mdev: Mdev) -> MigrationDevice | None:
    """Return the migration state of a device that is opened; None where the kernel cannot migrate."""
    match driver.profile.migration:
        case Migration.COMPARES:
            return FirstVersion(driver, mdev)
        case Migration.TAKES_OVER:
            return LaterSeries(driver, mdev)
        case Migration.ABSENT:
            return None
