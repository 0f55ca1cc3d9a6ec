"""Where things are on an AP host (kernel-ap.md 1.2 to 1.4, 3.1)."""

from __future__ import annotations

from vfio_ap.matrix import Apqn

BUS = "/sys/bus/ap"
DRIVERS = f"{BUS}/drivers"
MATRIX = "/sys/devices/vfio_ap/matrix"
CREATE = f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create"
MDEV_BUS = "/sys/bus/mdev/devices"
SYSINFO = "/proc/sysinfo"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RELEASE = "/proc/sys/kernel/osrelease"
PROC = "/proc"


def card(adapter: int) -> str:
    """Return the directory of an adapter."""
    return f"/sys/devices/ap/card{adapter:02x}"


def queue(apqn: Apqn) -> str:
    """Return the directory of a queue."""
    return f"{card(apqn.adapter)}/{apqn}"


def mdev(uuid: str) -> str:
    """Return the directory of a mediated device."""
    return f"{MATRIX}/{uuid}"
