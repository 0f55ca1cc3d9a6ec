"""How a move ended: where the VM is, what the target's kernel holds, and what a failure means.

A success is called one after the target's kernel was read back, a failure after it was asked why. What a move
does before its end is not said here.
"""

from __future__ import annotations

from dataclasses import replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import GIVEN_UP
from vfio_ap.fleet.moves.types import MigrationView, MoveStatus, Surroundings
from vfio_ap.fleet.verdict.failures import recognise
from vfio_ap.fleet.views import Desired, HeldMdev


def arrived(status: MoveStatus, migration: MigrationView | None, around: Surroundings) -> MoveStatus:
    """Say what became of a move that KubeVirt calls a success, or has dropped: look where the VM is."""
    vm = around.vm
    if migration is None and (vm is None or vm.node == status.source or not status.source):
        if status.refusal is not None and status.refusal.reason == GIVEN_UP:
            return _failed(status, status.refusal)
        text = "it was deleted before it ended; the VM stays where it is"
        return _failed(status, Refusal("Cancelled", f"migration {status.migration}", text))
    target = (migration.target if migration is not None else "") or status.target or (vm.node if vm else "")
    status = replace(status, target=target)
    if vm is None:
        text = "it arrived and has ended since"
        return replace(status, phase="Succeeded", line=f"moved to {target}; {text}", refusal=None)
    return settled(replace(status, phase="Moving"), around)


def settled(status: MoveStatus, around: Surroundings) -> MoveStatus:
    """Say how a VM that runs on its target is, once the target's kernel was read back."""
    target = status.target
    if not around.fresh:
        return replace(status, line=f"arrived on {target}; the target's kernel is being read back", refusal=None)
    if refusal := _not_as_meant(status, around, target):
        return replace(status, phase="Alarm", line=f"arrived on {target}, but {refusal}", refusal=refusal)
    line = f"moved from {status.source} to {target}" if status.source else f"moved to {target}"
    line += f"; device {_as_meant(around, target)}"
    return replace(status, phase="Succeeded", line=line, refusal=None)


def failed(status: MoveStatus, migration: MigrationView, around: Surroundings) -> MoveStatus:
    """Say why a migration failed, once the target's kernel has been asked: KubeVirt often knows an errno at most.

    The kernel has something to say only of a guest that was on its way.
    """
    if status.refusal is not None and status.refusal.reason == GIVEN_UP:
        return _failed(status, status.refusal)
    status = replace(status, target=migration.target or status.target)
    if status.phase == "Moving" and around.patient and not around.fresh:
        line = f"KubeVirt calls it failed; the kernel of {status.target} is asked why"
        return replace(status, line=line, refusal=None)
    return _failed(status, _why(status, migration, around))


def _not_as_meant(status: MoveStatus, around: Surroundings, target: str) -> Refusal | None:
    """Return what of the device is not as it was meant to be.

    The kernel takes over what comes in the stream, whole or not (L-11). What was meant is what the node was to
    hold, shaped for the move, and that the guest has what it had when it left.
    """
    shall, held = _device(around, target)
    subject = f"device {around.matrix.uuid} on node {target}"
    if shall is None or held is None:
        text = "it is not there, though the VM runs there"
        return Refusal("DeviceGone", subject, text, "see the node's APNode, and restart the VM")
    if held.configuration != shall.configuration:
        text = f"it holds {held.configuration} after the move, and {shall.configuration} was meant"
        remedy = "check what the guest lacks; the device is set right once nothing uses it, so restart the VM"
        return Refusal("NotAsMeant", subject, text, remedy)
    if held.guest is None:
        text = f"it holds {held.configuration}, and the guest gets none of it, or the agent cannot read what"
        return Refusal("FilteredAway", subject, text, "see the node's APNode and the guest's adapters")
    had = status.guest or held.configuration
    if had.adapters - held.guest.adapters or had.domains - held.guest.domains:
        text = f"the guest gets {held.guest} of {had}: the rest was filtered away"
        return Refusal("FilteredAway", subject, text, "bring the missing queues back on the node")
    return None


def _as_meant(around: Surroundings, target: str) -> str:
    """Return how a device that is as meant is: the guest may have had less than the matrix has."""
    held, node = _device(around, target)[1], around.nodes.get(target)
    if held is None or node is None or held.configuration == around.matrix.on(node):
        return "as meant"
    return f"as meant, {held.configuration}, as the guest had it; the rest of the matrix follows now"


def _device(around: Surroundings, target: str) -> tuple[Desired | None, HeldMdev | None]:
    """Return what the target was to hold of the matrix, and what it holds."""
    node = around.nodes.get(target)
    if node is None:
        return None, None
    shall = next((item for item in node.desired if item.matrix == around.matrix.name), None)
    return shall, node.mdevs.get(around.matrix.uuid)


def _why(status: MoveStatus, migration: MigrationView, around: Surroundings) -> Refusal:
    """Return what a failure means, with its words; those of the kernel say more than QEMU's errno."""
    subject = f"migration {migration.name}"
    told = migration.failure or (around.vm.failure if around.vm is not None else "")
    node = around.nodes.get(status.target) if status.phase == "Moving" else None
    lines = node.kernel_log.get(around.matrix.uuid, ()) if node is not None else ()
    heard = f"kernel of {status.target}: {'; '.join(lines)}" if lines else ""
    said = ", ".join(filter(None, (told, heard)))
    if known := recognise("\n".join(lines)) or recognise(told):
        about = f"{known.subject}: " if known.subject else ""
        return Refusal(known.reason, subject, f"{about}{known.message} ({said})", known.remedy)
    return Refusal("MigrationFailed", subject, said or "no reason given", "see the VMI's status.migrationState")


def _failed(status: MoveStatus, refusal: Refusal) -> MoveStatus:
    where = f"; the VM is on {status.source}" if status.source else ""
    return replace(status, phase="Failed", line=f"{refusal}{where}", refusal=refusal)
