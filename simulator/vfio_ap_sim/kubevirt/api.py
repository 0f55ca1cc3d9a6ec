"""KubeVirt's names as constants (staging/src/kubevirt.io/api/core/v1/types.go)."""

from __future__ import annotations

from typing import Any, Final

from vfio_ap_kube.client import Resource

Document = dict[str, Any]

NAMESPACE: Final = "kubevirt"
"""Where KubeVirt is installed."""
API_VERSION: Final = "kubevirt.io/v1"

KUBEVIRTS: Final = Resource(API_VERSION, "kubevirts", NAMESPACE)
VMS: Final = Resource(API_VERSION, "virtualmachines")
VMIS: Final = Resource(API_VERSION, "virtualmachineinstances")
VMIMS: Final = Resource(API_VERSION, "virtualmachineinstancemigrations")

NODE_NAME: Final = "kubevirt.io/nodeName"
"""VMI label: the node whose virt-handler owns it; virt-controller writes it first."""
TARGET_NODE_NAME: Final = "kubevirt.io/migrationTargetNodeName"
"""VMI label: the node whose virt-handler prepares for it."""
CREATED_BY: Final = "kubevirt.io/created-by"
"""Pod label: uid of the VMI."""
LAUNCHER: Final = "kubevirt.io=virt-launcher"
"""Selector of launcher pods."""
HOOK_SIDECARS: Final = "hooks.kubevirt.io/hookSidecars"

COMPUTE: Final = "compute"
"""The launcher pod's container that holds the guest."""
FINAL: Final = ("Succeeded", "Failed")


def key(document: Document) -> tuple[str, str]:
    """Return an object's namespace and name."""
    metadata = document["metadata"]
    return metadata["namespace"], metadata["name"]
