"""What a migration that failed says of itself, as reasons of the same table that verdicts are made of.

The texts are those of the kernel's log, QEMU and libvirt (the series' chapter in vfio-ap.rst, kernel-ap.md 4.2,
L-2, L-3), wherever they were found: a VMI's ``failureReason``, a log, a paste out of a table. Nothing here looks
at a node.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.verdict.reasons import Reason

_NOISE = re.compile(r"(?:\\n|[\s|*+])+")
"""White space, written-out line ends and the frames of tables."""
_QUEUE = r"(?P<queue>[$0-9A-Za-z.]*[0-9A-Za-z])"
_SIDES = {"source": "target", "target": "source"}


@dataclass(frozen=True, slots=True)
class _Known:
    """One text, as a pattern over text without noise; the message is filled with the pattern's groups."""

    pattern: re.Pattern[str]
    reason: Reason
    message: str
    subject: str = ""
    fill: Callable[[dict[str, str]], dict[str, str]] = dict


def recognise(text: str) -> Refusal | None:
    """Return what a failure's text means: reason, queue or device, values, remedy; None for any other text.

    Of a text that says several things the one that says most is taken: a queue before a device, both before an
    errno.
    """
    plain = _NOISE.sub(" ", text)
    for known in _KNOWN:
        if match := known.pattern.search(plain):
            parts = known.fill({name: value or "" for name, value in match.groupdict().items()})
            return known.reason.refuse(known.subject.format(**parts), known.message.format(**parts))
    return None


def _known(
    pattern: str,
    reason: Reason,
    message: str,
    subject: str = "",
    fill: Callable[[dict[str, str]], dict[str, str]] = dict,
) -> _Known:
    return _Known(re.compile(pattern.replace("QUEUE", _QUEUE)), reason, message, subject, fill)


def _both_sides(parts: dict[str, str]) -> dict[str, str]:
    """Say what the other side has: only facilities that differ are told, in a line for each side."""
    word = "available" if parts["word"] == "available" else "installed"
    here, there = (f"not {word}", word) if parts["no"] else (word, f"not {word}")
    values = {parts["side"]: here, _SIDES[parts["side"]]: there}
    return parts | {f"on_{side}": value for side, value in values.items()}


_FACILITY = r"(?P<no>not )?(?P<word>installed|available) in (?P<side>source|target) queue QUEUE"
_V1_FACILITY = r"(?P<no>not )?(?P<word>installed|available) (?:in )?(?P<side>source|target) queue QUEUE"
_DIFFERS = "{what}: {on_source} on the source, {on_target} on the target"


def _errno(strerror: str, reason: Reason, message: str) -> _Known:
    """A number of the target's, as QEMU on the source or the target words it."""
    pattern = rf"load of migration failed: (?i:{strerror})"
    return _known(pattern, reason, f"the target refused the device's state ({strerror}): {message}")


_KNOWN: tuple[_Known, ...] = (
    # the kernel's log, of one queue
    _known(
        rf"(?P<what>Coprocessor-mode|Accelerator-mode|XCP-mode) {{1,2}}facility {_V1_FACILITY}",
        Reason.ModeDiffers,
        _DIFFERS,
        "queue {queue}",
        _both_sides,
    ),
    _known(
        rf"(?P<what>APSC|mex4k|crt4k) facility {_FACILITY}",
        Reason.FacilityDiffers,
        _DIFFERS,
        "queue {queue}",
        _both_sides,
    ),
    _known(
        r"(?P<what>AP-extended-addressing \(APXA\)|Stateless-command-filtering \(SLCF\)) (?:facility )?"
        + _FACILITY,
        Reason.FacilityDiffers,
        _DIFFERS,
        "queue {queue}",
        _both_sides,
    ),
    _known(
        "Full native card function available on source queue QUEUE",
        Reason.ClassDiffers,
        "full function on the source, only stateless functions on the target",
        "queue {queue}",
    ),
    _known(
        "Only stateless functions available on target queue QUEUE",
        Reason.ClassDiffers,
        "full function on the source, only stateless functions on the target",
        "queue {queue}",
    ),
    _known(
        r"Bind/associate state for source \((?P<here>[^\s()]+)\) and target \((?P<there>[^\s()]+)\) queue QUEUE",
        Reason.QueueBound,
        "bind or associate state: {here} on the source, {there} on the target",
        "queue {queue}",
    ),
    _known(
        r"AP type of source \((?P<here>[^\s()]+)\) not compatible with target \((?P<there>[^\s()]+)\)",
        Reason.AdapterOlder,
        "AP type (hexadecimal, 0e is CEX8): {here} on the source, {there} on the target",
        "adapter",
    ),
    _known(
        r"Migration failed: Source and target queues? \(QUEUE\) (?:are )?not compatible",
        Reason.QueueNotCompatible,
        "differs between source and target; the lines after this one say in what",
        "queue {queue}",
    ),
    _known(
        "Queue QUEUE not available to vfio_ap driver on target host",
        Reason.QueueNotInDevice,
        "is in the guest on the source, and not with vfio_ap on the target",
        "queue {queue}",
    ),
    _known(
        "Control domain (?P<domain>[$0-9A-Za-z]+) not available on the destination host",
        Reason.ControlDomainAbsent,
        "the guest controls it on the source, the target cannot",
        "control domain {domain}",
    ),
    _known(
        r"Failed to get hwinfo for queue QUEUE: TAPQ rc=(?P<code>-?\w+)",
        Reason.TargetAnswersBadly,
        "answered the kernel's question what it is with {code}",
        "queue {queue}",
    ),
    _known(
        r"Userspace may not assign queue QUEUE to mdev: already assigned to (?P<other>[$0-9A-Za-z-]+)",
        Reason.QueueInOtherDevice,
        "is in mdev {other} on the target",
        "queue {queue}",
    ),
    _known(
        "migration failed: queue QUEUE not assigned to guest matrix",
        Reason.GuestMatrixDiffers,
        "is in the guest on the source, and not in the target's device",
        "queue {queue}",
    ),
    # the kernel's log, of the device
    _known(
        r"source guest's AP config size \((?P<here>[^\s()]+)\) larger than target's \((?P<there>[^\s()]+)\)",
        Reason.GuestMatrixDiffers,
        "bytes of AP configuration: {here} on the source, room for {there} on the target",
    ),
    _known(
        r"number of queues on source \((?P<here>[^\s()]+)\) and target \((?P<there>[^\s()]+)\) guests differ",
        Reason.GuestMatrixDiffers,
        "number of queues: {here} on the source, {there} on the target",
    ),
    _known(
        "Migration not allowed from or to a Secure Execution guest",
        Reason.SecureExecution,
        "one of the two runs under Secure Execution",
        "the VM",
    ),
    # libvirt and QEMU, before anything moves
    _known(
        r"mediated device '(?P<uuid>[^']+)' not found",
        Reason.DeviceAbsent,
        "is not on the target",
        "mdev {uuid}",
    ),
    _known(
        r"(?:cannot migrate domain: )?(?P<uuid>[$0-9A-Za-z-]+): Migration is disabled for VFIO device",
        Reason.MigrationDisabled,
        "migration is switched off for it on the source",
        "mdev {uuid}",
    ),
    _known(
        "VFIO migration is not supported with postcopy migration",
        Reason.PostCopy,
        "its migration may switch to post-copy",
        "the VM",
    ),
    _known(
        r"VFIO migration is not supported in kernel|non-migratable device:? '?vfio-ap",
        Reason.KernelCannotMigrate,
        "the kernel or the QEMU of a side cannot migrate vfio_ap devices",
    ),
    # an errno is all that is known
    _errno(
        "Bad address",
        Reason.QueueNotCompatible,
        "under the first version of the kernel's code a queue is not compatible; under later ones the device was "
        "refused once and must be opened anew",
    ),
    _errno("Invalid argument", Reason.QueueNotCompatible, "a queue's hardware is not compatible"),
    _errno(
        "Input/output error",
        Reason.TargetRefused,
        "the guest has more queues than the target's device (first version), or a queue did not answer",
    ),
    _errno(
        "No such device",
        Reason.TargetRefused,
        "a queue or a control domain is not there, or the device has more queues than the guest (first version)",
    ),
    _errno("Argument list too long", Reason.GuestMatrixDiffers, "the numbers of queues differ"),
    _errno("Address already in use", Reason.QueueInOtherDevice, "another mdev on the target has a queue"),
    _errno("Cannot assign requested address", Reason.HostReserved, "a queue is the host's on the target"),
    _errno("Device or resource busy", Reason.DeviceInUse, "somebody else writes to it"),
    _errno("Operation canceled", Reason.QueueNotInDevice, "an adapter would have been filtered away"),
    _errno("Operation not permitted", Reason.SecureExecution, "one of the two runs under Secure Execution"),
    _known(
        r"load of migration failed: (?P<errno>[^'\")]+)",
        Reason.TargetRefused,
        "the target refused the device's state: {errno}",
    ),
    _known(
        r"Failed to load vmstate version_id: \S+ ret: (?P<number>-?\d+)",
        Reason.TargetRefused,
        "the target refused the device's state with {number}",
    ),
    _known("error while loading state section id", Reason.TargetRefused, "the target refused a device's state"),
    _known("shutting down, reason=failed", Reason.TargetRefused, "the target's QEMU ended"),
    _known(r"terminating on signal 15 from pid", Reason.TargetRefused, "libvirt ended the target's QEMU"),
    _known("Sibling indicated error", Reason.SourceGaveUp, "the target failed"),
    _known(
        r"cannot migrate domain: (?P<why>.+)",
        Reason.KernelCannotMigrate,
        "libvirt would not begin: {why}",
    ),
)
"""In the order in which they are tried."""
