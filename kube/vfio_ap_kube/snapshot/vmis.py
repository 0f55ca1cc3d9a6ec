"""The view of a running VM with a matrix, from its VMI."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.verdict import GuestFacts
from vfio_ap_kube.snapshot.names import MATRIX


def vm_view(document: dict[str, Any]) -> VmView | None:
    """Return the view of a VMI that runs, None for one that does not run or has no matrix."""
    metadata, status = document["metadata"], document.get("status") or {}
    matrix = (metadata.get("annotations") or {}).get(MATRIX, "")
    node = str(status.get("nodeName") or "")
    if not matrix or not node or status.get("phase") != "Running":
        return None
    none: dict[str, Any] = {}
    state = status.get("migrationState") or none
    live = next((c for c in status.get("conditions") or [] if c.get("type") == "LiveMigratable"), none)
    return VmView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        matrix=matrix,
        node=node,
        evacuating=status.get("evacuationNodeName") == node,
        migratable=live.get("status") == "True",
        failure=str(state.get("failureReason") or "") if state.get("failed") else "",
        owner=_owner(metadata),
        guest=GuestFacts(
            secure_execution="launchSecurity" in ((document.get("spec") or none).get("domain") or none)
        ),
        external=(document.get("spec") or none).get("evictionStrategy") == "External",
        obstacle=": ".join(str(live[key]) for key in ("reason", "message") if live.get(key)),
    )


def _owner(metadata: dict[str, Any]) -> tuple[str, str] | None:
    owners = metadata.get("ownerReferences") or []
    found = next((owner for owner in owners if owner.get("kind") == "VirtualMachine"), None)
    return (str(found["name"]), str(found["uid"])) if found is not None else None
