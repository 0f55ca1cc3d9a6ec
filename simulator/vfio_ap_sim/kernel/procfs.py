"""The little of /proc that says which machine this is and which process holds a VFIO group (V-36)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vfio_ap_sim.kernel.guests import COMM, Guest
from vfio_ap_sim.kernel.machine import Identity
from vfio_ap_sim.kernel.nodes import Directory, File, Link, Node, folder, merged
from vfio_ap_sim.kernel.profile import Profile


def proc_directory(identity: Identity, profile: Profile, guests: Callable[[], Mapping[str, Guest]]) -> Directory:
    """Return /proc."""
    fixed: dict[str, Node] = {
        "sysinfo": File(lambda: _sysinfo(identity)),
        "sys": folder({"kernel": folder({"osrelease": File(lambda: f"{profile.release}\n")})}),
    }

    def process(name: str) -> Directory | None:
        return next((_process(guest) for guest in guests().values() if str(guest.pid) == name), None)

    return merged(fixed, lambda: [str(guest.pid) for guest in guests().values()], process)


def _process(guest: Guest) -> Directory:
    descriptors: dict[str, Node] = {str(number): Link(what) for number, what in guest.descriptors.items()}
    return folder(
        {
            "comm": File(lambda: f"{COMM}\n"),
            "cmdline": File(lambda: f"/usr/bin/qemu-system-s390x\0-name\0guest={guest.name}\0"),
            "fd": folder(descriptors),
        }
    )


def _sysinfo(identity: Identity) -> str:
    """Return the lines of /proc/sysinfo that tell machine and LPAR (``arch/s390/kernel/sysinfo.c``)."""
    return (
        f"Manufacturer:         {identity.manufacturer:<16}\n"
        f"Type:                 {identity.type}\n"
        f"Model:                {identity.model:<16}\n"
        f"Sequence Code:        {identity.sequence:<16}\n"
        "Plant:                02  \n"
        f"Model Capacity:       {identity.model:<16} 00000000\n"
        "\n"
        "CPUs Total:           8\n"
        "CPUs Configured:      8\n"
        "CPUs Standby:         0\n"
        "CPUs Reserved:        0\n"
        "\n"
        "LPAR Number:          1\n"
        "LPAR Characteristics: Shared \n"
        f"LPAR Name:            {identity.lpar:<8}\n"
        "LPAR Adjustment:      1000\n"
    )
