"""Running VMs with a matrix: from VMI documents to the core's view, and the migration to ask for. No I/O."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.evacuation import VmView
from vfio_ap_operator.pods import MATRIX_LABEL

ANNOTATION = "ap.s390x.io/matrix"
_EVACUATION = "kubevirt.io/evacuationMigration"


def vm_view(document: dict[str, Any]) -> VmView | None:
    """Return the view of a VMI that runs, None for one that does not run or has no matrix."""
    metadata, status = document["metadata"], document.get("status") or {}
    matrix = (metadata.get("annotations") or {}).get(ANNOTATION, "")
    node = str(status.get("nodeName") or "")
    if not matrix or not node or status.get("phase") != "Running":
        return None
    none: dict[str, Any] = {}
    live = next((c for c in status.get("conditions") or [] if c.get("type") == "LiveMigratable"), none)
    return VmView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        matrix=matrix,
        node=node,
        evacuating=status.get("evacuationNodeName") == node,
        migratable=live.get("status") == "True",
        obstacle=": ".join(str(live[key]) for key in ("reason", "message") if live.get(key)),
    )


def migration(vm: VmView, hostname: str) -> dict[str, Any]:
    """Return the migration to ask KubeVirt for: of this VM, to the node with this hostname label.

    The annotation is that of KubeVirt's own evacuations: after a failure its controller lets the next one wait, 20
    seconds and doubling (pkg/virt-controller/watch/migration: kubevirt.md 1.5).
    """
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {
            "generateName": f"{vm.name[:40]}-evacuation-",
            "namespace": vm.namespace,
            "labels": {MATRIX_LABEL: vm.matrix},
            "annotations": {_EVACUATION: vm.node},
        },
        "spec": {"vmiName": vm.name, "addedNodeSelector": {"kubernetes.io/hostname": hostname}},
    }
