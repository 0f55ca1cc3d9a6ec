"""What an errno of the AP bus or vfio_ap means, and what to do about it. Pure.

The same number means different things in different files, so the file's name is part of the key
(kernel-ap.md 2.3, 3.1, 3.3, 3.4, 3.7).
"""

from __future__ import annotations

import errno

from vfio_ap.errors import Refusal

_MASKS = ("apmask", "aqmask")
_ASSIGN = ("ap_config", "assign_adapter", "assign_domain")

MIGRATABLE_BUSY = "MigratableBusy"
_MEANING: dict[tuple[str, int], tuple[str, str, str]] = {}


def _say(files: tuple[str, ...], number: int, reason: str, message: str, remedy: str = "") -> None:
    for file in files:
        _MEANING[file, number] = (reason, message, remedy)


_say(
    _MASKS,
    errno.EBUSY,
    "MaskBusy",
    "the kernel does not take queues back that an mdev holds",
    "remove or shrink that mdev first",
)
_say(
    _MASKS,
    errno.EINVAL,
    "MaskRefused",
    "the kernel refuses mask edits while a queue has a driver_override",
    "clear every driver_override, or keep to that mode; if none is set, only a reboot clears the kernel's count",
)
_say(
    ("driver_override",),
    errno.EINVAL,
    "OverrideRefused",
    "the kernel refuses driver_override once a mask was edited",
    "give both masks back (apmask and aqmask all ones), or keep to masks",
)
_say(
    _ASSIGN,
    errno.EADDRNOTAVAIL,
    "HostReserved",
    "a queue of it belongs to the host's driver",
    "the masks changed meanwhile; the next pass plans anew",
)
_say(
    _ASSIGN,
    errno.EADDRINUSE,
    "QueueTaken",
    "a queue of it is in another mdev",
    "take the queue out of one of the two",
)
_say(
    _ASSIGN,
    errno.ENODEV,
    "IdAboveMaximum",
    "an adapter or domain is above the machine's maximum, or the mdev is gone",
)
_say(
    _ASSIGN,
    errno.EINVAL,
    "ConfigurationRefused",
    "the kernel does not understand the configuration",
    "report this with the agent's log",
)
_say(
    ("create",),
    errno.EEXIST,
    "UuidTaken",
    "an mdev with this UUID exists or is still being removed",
    "wait until the guest that has it releases it",
)
_say(
    ("create",),
    errno.EUSERS,
    "TooManyMdevs",
    "the kernel has no free mdev instance",
    "remove mdevs that are not needed",
)
_say(("create",), errno.EINVAL, "UuidRefused", "the kernel does not take it as a UUID")
_say(("create",), errno.ENODEV, "DriverNotLoaded", "vfio_ap is being unloaded", "modprobe vfio_ap")
_say(("create",), errno.ENOENT, "DriverNotLoaded", "vfio_ap is not loaded", "modprobe vfio_ap")
_say(("remove",), errno.EAGAIN, "NotNow", "the mdev is half made or its parent is going away")

_say(
    ("migratable",),
    errno.EBUSY,
    MIGRATABLE_BUSY,
    "a migration of its guest is running",
    "it is tried again until the migration has ended",
)

_GENERAL: dict[int, tuple[str, str, str]] = {
    errno.EACCES: ("NotAllowed", "the file may not be opened so", "run the agent as root, privileged in a pod"),
    errno.EPERM: ("NotAllowed", "the agent lacks the privilege", "run the agent as root, privileged in a pod"),
    errno.EROFS: ("ReadOnlySysfs", "sysfs is mounted read-only", "give the container a writable /sys"),
    errno.ENOENT: ("Vanished", "the file is not there any more", ""),
    errno.ENODEV: ("Vanished", "the device is not there any more", ""),
    errno.EIO: ("DeviceError", "the adapter or its firmware did not answer", "see the adapter's state on the HMC"),
    errno.EINTR: ("Interrupted", "the write was interrupted before it began", ""),
}


def meaning(path: str, number: int, subject: str) -> Refusal:
    """Return the refusal for an errno that a read or write of ``path`` gave; ``subject`` is what it was for."""
    name = errno.errorcode.get(number, str(number))
    file = path.rpartition("/")[2]
    reason, message, remedy = _MEANING.get((file, number)) or _GENERAL.get(number) or ("SysfsError", "", "")
    return Refusal(reason, subject, f"{message or 'the kernel refused'} ({name} from {path})", remedy)
