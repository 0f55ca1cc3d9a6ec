"""The migration to ask KubeVirt for. No I/O."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.evacuation import VmView
from vfio_ap_kube.snapshot.names import MATRIX

_EVACUATION = "kubevirt.io/evacuationMigration"


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
            "labels": {MATRIX: vm.matrix},
            "annotations": {_EVACUATION: vm.node},
        },
        "spec": {"vmiName": vm.name, "addedNodeSelector": {"kubernetes.io/hostname": hostname}},
    }
