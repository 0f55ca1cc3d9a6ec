"""Which processes have a VFIO group or device open, from the links in /proc/PID/fd (V-36)."""

from __future__ import annotations

import errno
import re

from vfio_ap.host.ops import Link, List, Read
from vfio_ap.host.view import Holder
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.files import Files
from vfio_ap_agent.inventory.mdevs import People

_FILE = re.compile(r"/dev/vfio/([0-9]+|devices/vfio[0-9]+)")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""
_DENIED = (errno.EACCES, errno.EPERM)


async def look_for_holders(files: Files) -> People:
    """Return who has which group open.

    Processes that end meanwhile are passed over. Where a process cannot be looked into, or /proc shows another
    PID namespace than the host's first, nobody's idleness can be proven.
    """
    initial = Link(f"{paths.PROC}/1/ns/pid")
    await files.fetch([List(paths.PROC), initial])
    names = files.names(paths.PROC) or ()
    # A played host's /proc has no "self" and only the processes that it plays.
    if "self" in names and files.failed(initial) is not None:
        return People(None)
    if "self" in names and files.target(initial.path) != _INITIAL_PID_NAMESPACE:
        return People(None)
    folders = [List(f"{paths.PROC}/{name}/fd") for name in names if name.isdecimal()]
    await files.fetch(folders)
    links = []
    for folder in folders:
        if files.failed(folder) in _DENIED:
            return People(None)
        links += [Link(f"{folder.path}/{number}") for number in files.names(folder.path) or ()]
    await files.fetch(links)
    found: dict[str, set[int]] = {}
    for link in links:
        if files.failed(link) in _DENIED:
            return People(None)
        target = files.target(link.path) or ""
        if match := _FILE.fullmatch(target):
            found.setdefault(match[1], set()).add(int(link.path.split("/")[2]))
    pids = sorted({pid for group in found.values() for pid in group})
    await files.fetch(Read(f"{paths.PROC}/{pid}/comm") for pid in pids)
    commands = {pid: (files.text(f"{paths.PROC}/{pid}/comm") or "").strip() for pid in pids}
    return People(
        {group: tuple(Holder(pid, commands[pid]) for pid in sorted(who)) for group, who in found.items()}
    )
