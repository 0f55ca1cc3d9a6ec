"""What of an object may leave the cluster: only what is named here, so that nothing secret slips through. Pure.

A VM's cloud-init data, environments of containers, volumes, and annotations of others are not in any list and so
are left out. What remains is what the questions are answered by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vfio_ap_cli.reading.documents import OURS, Document
from vfio_ap_kube.lease import last_renewed
from vfio_ap_kube.preconditions.kubevirt import DEFINITION, LOCK
from vfio_ap_kube.preconditions.policies import WEBHOOK
from vfio_ap_kube.snapshot.names import MATRIX, USE_LABEL

_METADATA = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
)
_ANNOTATIONS = re.compile(r"((.*\.)?ap\.s390x\.io|(.*\.)?kubevirt\.io)/.*")
_NOT_ANNOTATIONS = ("hooks.kubevirt.io/",)
"""Hook sidecars of others may have anything in their arguments."""
_LABELS = re.compile(r"(.*[./])?(kubernetes\.io|k8s\.io|kubevirt\.io|ap\.s390x\.io)/.*|[a-z0-9-]{1,40}")
_PLACING = ("nodeSelector", "affinity", "tolerations", "nodeName", "schedulingGates", "priorityClassName")
_VMI_STATUS = (
    "phase",
    "phaseTransitionTimestamps",
    "nodeName",
    "conditions",
    "activePods",
    "migrationState",
    "migrationMethod",
    "migrationTransport",
    "evacuationNodeName",
    "reason",
    "launcherContainerImageVersion",
)
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), "[key]"),
    (re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), "[token]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]{6,}"), r"\1 [removed]"),
    (re.compile(r"(?i)(token|password|passwd|secret|api[-_]?key)([\"']?\s*[=:]\s*[\"']?)[^\s\"',;]{6,}"),
     r"\1\2[removed]"),
)  # fmt: skip


def trimmed(document: Document) -> Document | None:
    """Return an object as it may be shown to others, None for one that is of no use to them."""
    kind = str(document.get("kind"))
    trim = _KINDS.get(kind)
    if trim is None:
        return None
    rest = trim(document)
    if rest is None:
        return None
    head = {"apiVersion": document.get("apiVersion"), "kind": kind, "metadata": _metadata(document)}
    cleaned: Document = _cleaned({**head, **rest})
    return cleaned


def redacted(text: str) -> str:
    """Return a text without what looks like a key, a token or a password."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the same without nothings, its texts redacted."""
    if isinstance(value, Mapping):
        return {key: _cleaned(inner) for key, inner in value.items() if inner is not None and inner != {}}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def _picked(value: object, names: Iterable[str]) -> Document:
    return {name: value[name] for name in names if name in value} if isinstance(value, Mapping) else {}


def _metadata(document: Document) -> Document:
    metadata = document.get("metadata") or {}
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if _ANNOTATIONS.fullmatch(key) and not key.startswith(_NOT_ANNOTATIONS)
    }
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if _LABELS.fullmatch(key)}
    return {**_picked(metadata, _METADATA), "labels": labels, "annotations": annotations}


def _lease(document: Document) -> Document:
    """Return a Lease with the time at which the API server saw it written, whatever its holder's clock says."""
    written = last_renewed(document)
    spec = document.get("spec") or {}
    return {"spec": spec | ({"renewTime": written.isoformat()} if written is not None else {})}


def _whole(document: Document) -> Document:
    return {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}


def _named_ours(document: Document) -> Document | None:
    return _whole(document) if str(document["metadata"].get("name")).startswith(WEBHOOK) else None


def _webhook(document: Document) -> Document | None:
    if document["metadata"].get("name") != WEBHOOK:
        return None
    names = (
        "name",
        "failurePolicy",
        "matchPolicy",
        "rules",
        "namespaceSelector",
        "objectSelector",
        "timeoutSeconds",
    )
    return {"webhooks": [_picked(hook, names) for hook in document.get("webhooks") or []]}


def _node(document: Document) -> Document:
    return {
        "spec": _picked(document.get("spec"), ("taints", "unschedulable")),
        "status": _picked(document.get("status"), ("allocatable", "capacity", "conditions", "nodeInfo")),
    }


def _containers(spec: object) -> Document:
    found: Document = _picked(spec, _PLACING)
    for key in ("initContainers", "containers"):
        if isinstance(spec, Mapping) and spec.get(key):
            found[key] = [_picked(item, ("name", "image", "resources")) for item in spec[key]]
    return found


def _pod(document: Document) -> Document:
    names = ("phase", "conditions", "reason", "message", "startTime", "containerStatuses", "initContainerStatuses")
    return {"spec": _containers(document.get("spec")), "status": _picked(document.get("status"), names)}


def _workload(document: Document) -> Document:
    spec = document.get("spec") or {}
    template = {"spec": _containers((spec.get("template") or {}).get("spec"))}
    return {"spec": {**_picked(spec, ("replicas",)), "template": template}, "status": document.get("status")}


def _guest(spec: object) -> Document:
    """Return of a guest what matters to its device and its moves; no volume, no network, no credential."""
    found = _picked(spec, (*_PLACING, "evictionStrategy", "terminationGracePeriodSeconds", "architecture"))
    domain = spec.get("domain") if isinstance(spec, Mapping) else None
    kept = _picked(domain, ("cpu", "memory", "resources", "launchSecurity"))
    devices = _picked(domain.get("devices") if isinstance(domain, Mapping) else None, ("hostDevices", "gpus"))
    return {**found, "domain": {**kept, "devices": devices}}


def _vm(document: Document) -> Document | None:
    spec = document.get("spec") or {}
    template = spec.get("template") or {}
    metadata = _metadata(template)
    if MATRIX not in metadata["annotations"]:
        return None
    names = ("printableStatus", "ready", "created", "conditions", "runStrategy", "stateChangeRequests")
    return {
        "spec": {
            **_picked(spec, ("runStrategy", "running", "updateVolumesStrategy")),
            "template": {"metadata": metadata, "spec": _guest(template.get("spec"))},
        },
        "status": _picked(document.get("status"), names),
    }


def _vmi(document: Document) -> Document:
    return {"spec": _guest(document.get("spec")), "status": _picked(document.get("status"), _VMI_STATUS)}


def _kubevirt(document: Document) -> Document:
    names = ("phase", "conditions", "observedKubeVirtVersion", "targetKubeVirtVersion", "operatorVersion")
    return {
        "spec": _picked(document.get("spec"), ("configuration", "workloadUpdateStrategy")),
        "status": _picked(document.get("status"), names),
    }


def _definition(document: Document) -> Document:
    """Return ours whole, and of KubeVirt's, which is long, the field that is looked at."""
    if document["metadata"].get("name") != DEFINITION:
        return _whole(document)
    versions = [
        {**_picked(version, ("name", "served")), "schema": {"openAPIV3Schema": _along(LOCK, version)}}
        for version in (document.get("spec") or {}).get("versions") or []
    ]
    return {"spec": {"versions": versions}, "status": _picked(document.get("status"), ("conditions",))}


def _along(path: tuple[str, ...], version: Document) -> Document:
    """Return a version's schema with nothing but the fields of the path, as far as it has them."""
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    steps: list[Document] = [schema]
    for name in path:
        if (inner := (steps[-1].get("properties") or {}).get(name)) is None:
            break
        steps.append(inner)
    kept: Document = _picked(steps[-1], ("type",))
    for name in reversed(path[: len(steps) - 1]):
        kept = {"type": "object", "properties": {name: kept}}
    return kept


_KINDS: dict[str, Callable[[Document], Document | None]] = {
    **{kind.name: _whole for kind in OURS},
    "Node": _node,
    "Namespace": lambda _: {},
    "Pod": _pod,
    "Lease": _lease,
    "Event": _whole,
    "Deployment": _workload,
    "DaemonSet": _workload,
    "VirtualMachine": _vm,
    "VirtualMachineInstance": _vmi,
    "VirtualMachineInstanceMigration": _whole,
    "KubeVirt": _kubevirt,
    "CustomResourceDefinition": _definition,
    "ValidatingAdmissionPolicy": _named_ours,
    "ValidatingAdmissionPolicyBinding": _named_ours,
    "MutatingAdmissionPolicy": _named_ours,
    "MutatingAdmissionPolicyBinding": _named_ours,
    "MutatingWebhookConfiguration": _webhook,
    "ValidatingWebhookConfiguration": _webhook,
}
"""What is kept of each kind; a kind that is not here is not taken at all."""


def related(
    kind: str, documents: Iterable[Document], guests: set[tuple[str, str]], spaces: set[str]
) -> list[Document]:
    """Return the objects of a kind that have to do with the product.

    ``guests`` are the VMs with a matrix, by namespace and name; ``spaces`` the namespaces that a matrix allows.
    """
    if kind == "Namespace":
        return [d for d in documents if d["metadata"]["name"] in spaces or _admits(d)]
    return [document for document in documents if _concerns(kind, document, guests)]


def _concerns(kind: str, document: Document, guests: set[tuple[str, str]]) -> bool:
    namespace = str(document["metadata"].get("namespace") or "")
    if kind == "VirtualMachineInstanceMigration":
        return (namespace, str((document.get("spec") or {}).get("vmiName"))) in guests
    if kind != "Event":
        return True
    about = document.get("involvedObject") or {}
    if str(about.get("apiVersion", "")).startswith("ap.s390x.io/") or str(
        (document.get("source") or {}).get("component", "")
    ).startswith("vfio-ap"):
        return True
    name = str(about.get("name", ""))
    return any(space == namespace and (name == guest or f"-{guest}-" in f"-{name}-") for space, guest in guests)


def _admits(namespace: Document) -> bool:
    return any(label.startswith(USE_LABEL) for label in namespace["metadata"].get("labels") or {})
