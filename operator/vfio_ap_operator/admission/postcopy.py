"""What admission changes of a VM with a matrix that is to be moved by post-copy: a pure function to a JSON patch.

QEMU moves no VFIO device by post-copy (hw/vfio/migration.c), and a MigrationPolicy may ask for it at any time.
KubeVirt writes what it made of its policies into the VMI when it hands a migration over to the nodes
(pkg/virt-controller/watch/migration/migration.go:handleTargetPodHandoff); nothing else of it is touched.
"""

from __future__ import annotations

from vfio_ap_kube.client import Document
from vfio_ap_operator.admission.patch import Patch, add
from vfio_ap_operator.admission.vmis import MATRIX


def postcopy_patch(vmi: Document) -> Patch:
    """Return what turns post-copy off for a VMI with a matrix; nothing where it is off."""
    state = (vmi.get("status") or {}).get("migrationState") or {}
    asked = (state.get("migrationConfiguration") or {}).get("allowPostCopy")
    if not asked or MATRIX not in (vmi["metadata"].get("annotations") or {}):
        return []
    return [add(False, "status", "migrationState", "migrationConfiguration", "allowPostCopy")]
