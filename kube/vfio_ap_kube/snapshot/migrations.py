"""The views of KubeVirt's migrations and of APMigration documents."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.moves import MigrationView, MoveStatus, MoveView
from vfio_ap_api.apmigration import APMigrationSpec, APMigrationStatus
from vfio_ap_kube.snapshot.names import ASKED_BY, EVACUATION, MIGRATION_UID, MOVE

_WORKLOAD_UPDATE = "kubevirt.io/workloadUpdateMigration"


def migration_view(document: dict[str, Any]) -> MigrationView:
    """Return the view of a VirtualMachineInstanceMigration."""
    metadata, status = document["metadata"], document.get("status") or {}
    annotations = metadata.get("annotations") or {}
    state = status.get("migrationState") or {}
    asked_by = "user"
    if EVACUATION in annotations:
        asked_by = "evacuation"
    elif _WORKLOAD_UPDATE in annotations:
        asked_by = "workload update"
    return MigrationView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        vm=str((document.get("spec") or {}).get("vmiName") or ""),
        phase=str(status.get("phase") or ""),
        target=str(state.get("targetNode") or ""),
        failure=str(state.get("failureReason") or ""),
        asked_by=asked_by,
        move=str(annotations.get(MOVE) or ""),
    )


def move_view(document: dict[str, Any]) -> MoveView | None:
    """Return the view of an APMigration, None for one that makes no sense or is on its way out."""
    metadata = document["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    try:
        spec = APMigrationSpec.model_validate(document.get("spec") or {})
    except ValidationError:
        return None
    annotations = metadata.get("annotations") or {}
    status = _status(document.get("status") or {})
    return MoveView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        vm=spec.vm,
        node=spec.node,
        dry_run=spec.dry_run,
        created=str(metadata.get("creationTimestamp", "")),
        status=replace(
            status,
            asked_by=status.asked_by or str(annotations.get(ASKED_BY) or ""),
            migration_uid=status.migration_uid or str(annotations.get(MIGRATION_UID) or ""),
        ),
    )


def _status(document: dict[str, Any]) -> MoveStatus:
    """Return what the status says; one that cannot be read is begun anew."""
    try:
        status = APMigrationStatus.model_validate(document)
    except ValidationError:
        return MoveStatus()
    reason = Refusal(status.reason, "", status.message, status.remedy) if status.reason else None
    guest = None
    if status.guest is not None:
        with contextlib.suppress(RefusedError):
            guest = status.guest.matrix()
    return MoveStatus(
        phase=status.phase or "",
        line=status.line,
        matrix=status.matrix,
        uuid=status.uuid,
        source=status.source,
        target=status.target,
        mode=status.mode or "",
        asked_by=status.asked_by,
        migration=status.migration,
        migration_uid=status.migration_uid,
        instance=status.instance,
        guest=guest,
        answers=tuple(
            Answer(
                n.name,
                Refusal(n.reason, "", n.message) if n.reason else None,
                mode=n.mode,
                warnings=tuple(n.warnings),
            )
            for n in status.nodes
        ),
        refusal=reason,
    )
