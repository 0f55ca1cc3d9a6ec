"""VMs and pods to try, and how to see what admission makes of them."""

import copy
import json
from typing import Any

from ..support import User, container, pod

PAYMENTS = "b92c2167-437e-5907-846c-4d29ccba27ff"
CARDS = "0d6c4ad9-35d5-5d7f-8c36-4e1a5d1d8a11"
IMAGE = "vfio-ap-hook:0.1.0"
ENTRY = '{"image":"vfio-ap-hook:0.1.0"}'
HOOKS = "hooks.kubevirt.io/hookSidecars"
MATRIX = "ap.s390x.io/matrix"
UUID = "ap.s390x.io/uuid"
GATE = "ap.s390x.io/placement"
HOLD = "ap.s390x.io/hold"
RESOURCE = "ap.s390x.io/payments"
TARGET = {"kubevirt.io/migrationJobUID": "3b8eaba5-420d-4970-9dbb-f1b8ea7966d8"}


def instance(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return what a VMI and a VM's template have in common; ``spec`` is its domain's."""
    domain = {"devices": {}, "memory": {"guest": "128Mi"}, "resources": {}, **spec}
    found = {MATRIX: "payments"} if annotations is None else annotations
    return {"metadata": {"annotations": found}, "spec": {"architecture": "s390x", "domain": domain}}


def vmi(annotations: dict[str, str] | None = None, *, name: str = "one", space: str = "bank", **spec: Any) -> dict:
    """Return a VMI that asks for payments unless it says otherwise."""
    document = instance(annotations, **spec)
    document["metadata"] |= {"name": name, "namespace": space}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", **document}


def vm(annotations: dict[str, str] | None = None, *, name: str = "one", space: str = "bank", **spec: Any) -> dict:
    """Return a stopped VM whose template asks for payments unless it says otherwise."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": space},
        "spec": {"runStrategy": "Halted", "template": instance(annotations, **spec)},
    }


def sidecar(image: str = IMAGE, name: str = "hook-sidecar-0", **more: Any) -> dict[str, Any]:
    """Return a sidecar's container as KubeVirt makes it."""
    mount = {"name": "hook-sidecar-sockets", "mountPath": "/var/run/kubevirt-hooks", "subPath": name}
    return {**container(name), "image": image, "volumeMounts": [mount], **more}


def launcher(*sidecars: dict[str, Any], target: bool = False, space: str = "bank", **spec: Any) -> dict[str, Any]:
    """Return a launcher pod for payments, in short."""
    compute = container("compute", limits={RESOURCE: "1"})
    volumes = [{"name": "hook-sidecar-sockets", "emptyDir": {}}]
    containers = [compute, *(sidecars or (sidecar(),))]
    document = pod("launcher", space, **({"containers": containers, "volumes": volumes} | spec))
    document["metadata"]["labels"] = {"kubevirt.io": "virt-launcher", **(TARGET if target else {})}
    return document


def made(who: User, document: dict[str, Any]) -> dict[str, Any]:
    """Return the object as it would be stored, without storing it."""
    return json.loads(who.create(document, "--dry-run=server", "-o", "json"))


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return a copy that lacks the field."""
    found = copy.deepcopy(document)
    inner = found
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return found
