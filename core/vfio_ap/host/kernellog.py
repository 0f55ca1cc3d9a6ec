"""What vfio_ap says in the kernel log, as refusals (kernel-ap.md K-10, 3.3, V-33, V-34, V-38, 4.2). Pure."""

from __future__ import annotations

import re

from vfio_ap.errors import Refusal

_UUID = r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_QUEUE = r"(?P<queue>[0-9a-f]{2}\.[0-9a-f]{4})"
_OTHER = _UUID.replace("uuid", "other")


def _line(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("UUID", _UUID).replace("QUEUE", _QUEUE).replace("OTHER", _OTHER))


_KNOWN: tuple[tuple[re.Pattern[str], str, str, str], ...] = (
    (
        _line(r"UUID: Can not reserve queue QUEUE for host driver: in use by mdev"),
        "MaskBusy",
        "was to go back to the host and is in mdev {uuid}",
        "whoever edited the masks must take it out of that mdev first",
    ),
    (
        _line(r"UUID: Userspace may not assign queue QUEUE to mdev: already assigned to OTHER"),
        "QueueTaken",
        "was to go to mdev {uuid} and is in mdev {other}",
        "take it out of one of the two",
    ),
    (
        _line(r"UUID: (?:Relaying device request to user|No device request registered)"),
        "RemovalWaits",
        "mdev {uuid} is being removed while a guest has it, and the guest has lost its adapters",
        "somebody wrote its remove file: stop that, or give the VM a new device",
    ),
    (
        _line(r"UUID: Device is currently in use, task \"(?P<task>[^\"]*)\" \((?P<pid>\d+)\) blocked"),
        "RemovalWaits",
        "process {task} ({pid}) hangs in the removal of mdev {uuid}, which a guest has",
        "stop the VM; the process cannot be killed before",
    ),
    (
        _line(r"Waited (?P<ms>\d+)ms for reset of queue QUEUE"),
        "ResetSlow",
        "has not finished its reset after some time; changes of AP devices on this host wait for it",
        "see the adapter's state on the HMC if it does not end",
    ),
    (
        _line(r"UUID: Queue QUEUE not available to vfio_ap driver on target host"),
        "MigrationRefused",
        "is not with vfio_ap here, so mdev {uuid} could not be migrated to this host",
        "give the queue to vfio_ap",
    ),
    (
        _line(r"UUID: Migration failed: Source and target queue \(QUEUE\) not compatible"),
        "MigrationRefused",
        "of mdev {uuid} differs between source and target",
        "choose a target with an adapter of the same type and functions",
    ),
    (
        _line(r"UUID: Control domain (?P<domain>[0-9a-f]{4}) not available on the destination host"),
        "MigrationRefused",
        "control domain {domain} of mdev {uuid} is not given to this host",
        "give the LPAR the control domain, or choose another target",
    ),
)


def meaning(text: str) -> Refusal | None:
    """Return what a line of the kernel log means; None for one of no weight or not of vfio_ap."""
    if "vfio_ap" not in text:
        return None
    for pattern, reason, message, remedy in _KNOWN:
        if match := pattern.search(text):
            parts = match.groupdict()
            return Refusal(reason, parts.get("queue") or "", message.format(**parts), remedy)
    return None
