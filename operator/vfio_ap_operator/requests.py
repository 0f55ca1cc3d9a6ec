"""Moves as documents: the migration to ask KubeVirt for, and APMigration objects with their status. No I/O."""

from __future__ import annotations

import hashlib
from typing import Any

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.moves import MigrationView, MoveStatus, MoveView
from vfio_ap.fleet.views import ids_text
from vfio_ap_api import apmigration
from vfio_ap_kube import conditions
from vfio_ap_kube.client import Resource
from vfio_ap_kube.events import about
from vfio_ap_kube.snapshot.names import ASKED_BY, EVACUATION, MATRIX, MIGRATION_UID, MOVE

MOVES = Resource(apmigration.KIND.api_version, apmigration.KIND.plural)
MIGRATIONS = Resource("kubevirt.io/v1", "virtualmachineinstancemigrations")
VMIS = Resource("kubevirt.io/v1", "virtualmachineinstances")
_MACHINES = Resource("subresources.kubevirt.io/v1", "virtualmachines")
_LISTED = 100
_PHASES = 32


def migration(vm: VmView, hostname: str, move: MoveView) -> dict[str, Any]:
    """Return the migration to ask KubeVirt for: of this VM, to the node with this hostname label.

    The annotation of an evacuation is that of KubeVirt's own: after a failure its controller lets the next one
    wait, 20 seconds and doubling (pkg/virt-controller/watch/migration: kubevirt.md 1.5). The name follows from the
    move, so that a second try after a crash finds the first.
    """
    annotations = {MOVE: move.name}
    if move.status.asked_by == "evacuation":
        annotations[EVACUATION] = vm.node
    return {
        "apiVersion": MIGRATIONS.api_version,
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {
            "name": f"{vm.name[:40]}-move-{_short(move.uid)}",
            "namespace": vm.namespace,
            "labels": {MATRIX: vm.matrix},
            "annotations": annotations,
        },
        "spec": {"vmiName": vm.name, "addedNodeSelector": {"kubernetes.io/hostname": hostname}},
    }


def restart_path(namespace: str, name: str) -> str:
    """Return the path that a VirtualMachine is restarted by, as ``virtctl restart`` does (pkg/virt-api/rest)."""
    return _MACHINES.within(namespace).path(name, "restart")


def move(vm: VmView, seen: MigrationView | None) -> dict[str, Any]:
    """Return the APMigration of a migration that was seen, or, without one, of an evacuation that is ours to make.

    It goes with its VM, and outlives a restart of it.
    """
    kind, (owner_name, owner_uid) = "VirtualMachineInstance", (vm.name, vm.uid)
    if vm.owner is not None:
        kind, (owner_name, owner_uid) = "VirtualMachine", vm.owner
    owner = {"apiVersion": "kubevirt.io/v1", "kind": kind, "name": owner_name, "uid": owner_uid}
    name = f"{seen.name[:200]}-{_short(seen.uid)}" if seen is not None else ""
    annotations = {ASKED_BY: "evacuation"}
    if seen is not None:
        annotations = {ASKED_BY: seen.asked_by, MIGRATION_UID: seen.uid}
    return {
        "apiVersion": MOVES.api_version,
        "kind": "APMigration",
        "metadata": {
            **({"name": name} if name else {"generateName": f"{vm.name[:200]}-evacuation-"}),
            "namespace": vm.namespace,
            "labels": {MATRIX: vm.matrix},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {"vm": vm.name},
    }


def move_status(current: dict[str, Any], status: MoveStatus, now: str) -> dict[str, Any]:
    """Return the APMigration document that applies a status; ``current`` is the object as it was last seen."""
    metadata, old = current["metadata"], current.get("status") or {}
    phases = list(old.get("phases") or [])
    if not phases or phases[-1].get("phase") != status.phase:
        phases.append({"phase": status.phase, "entered": now})
    said: dict[str, Any] = {
        "observedGeneration": int(metadata.get("generation", 0)),
        "phase": status.phase,
        "line": status.line[:4096],
        "matrix": status.matrix,
        "uuid": status.uuid,
        "source": status.source,
        "target": status.target,
        "askedBy": status.asked_by,
        "migration": status.migration,
        "migrationUid": status.migration_uid,
        "nodes": [_node(answer) for answer in status.answers[:_LISTED]],
        "phases": phases[-_PHASES:],
        "conditions": conditions.merged(old.get("conditions") or [], [_condition(current, status)], now),
    }
    if status.mode:
        said["mode"] = status.mode
    if status.instance:
        said["instance"] = status.instance
    if status.guest is not None:
        said["guest"] = ids_text(status.guest)
    if status.refusal is not None:
        said |= _told(status.refusal)
    return {
        "apiVersion": MOVES.api_version,
        "kind": "APMigration",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "status": said,
    }


def _condition(current: dict[str, Any], status: MoveStatus) -> dict[str, Any]:
    """Return the condition ``Complete``: True when the move came to a good end, False when not or not yet."""
    good = status.phase in ("Succeeded", "Checked")
    reason = status.refusal.reason if status.refusal is not None else status.phase
    return {
        "type": "Complete",
        "status": str(good),
        "reason": reason or "Unknown",
        "message": status.line[:4096],
        "observedGeneration": int(current["metadata"].get("generation", 0)),
    }


def _told(refusal: Refusal) -> dict[str, str]:
    message = f"{refusal.subject}: {refusal.message}" if refusal.subject else refusal.message
    return {"reason": refusal.reason, "message": message[:4096], "remedy": refusal.remedy[:4096]}


def _node(answer: Answer) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": answer.node}
    if answer.mode:
        entry["mode"] = answer.mode
    if answer.warnings:
        entry["warnings"] = [warning[:1024] for warning in answer.warnings[:16]]
    if answer.refusal is not None:
        entry |= {"reason": answer.refusal.reason, "message": str(answer.refusal)[:1024]}
    return entry


def about_vm(vm: VmView) -> dict[str, Any]:
    """Return what an Event about the VM refers to."""
    return about("kubevirt.io/v1", "VirtualMachineInstance", vm.name, vm.uid, vm.namespace)


def about_move(view: MoveView) -> dict[str, Any]:
    """Return what an Event about the move refers to."""
    return about(MOVES.api_version, "APMigration", view.name, view.uid, view.namespace)


def _short(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:8]
