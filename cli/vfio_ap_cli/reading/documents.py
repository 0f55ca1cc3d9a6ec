"""What was read, as documents by kind, with what could not be read and why. No I/O."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vfio_ap_api import apmatrix, apmigration, apmigrationpolicy, apnode
from vfio_ap_api.base import GROUP
from vfio_ap_kube.client import Resource
from vfio_ap_kube.preconditions.kubevirt import DEFINITION
from vfio_ap_kube.snapshot.names import MATRIX

Document = dict[str, Any]
_KUBEVIRT = "kubevirt.io/v1"
_ADMISSION = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the objects of a kind are."""

    kind: str
    plural: str
    versions: tuple[str, ...]
    """Group and version, the preferred one first."""
    selector: str = ""
    """Label selector of the objects that matter here."""
    own: bool = False
    """Read in the namespace of the operator only."""
    names: tuple[str, ...] = ()
    """The only objects that matter, where the kind is one of many large ones."""

    def resources(self) -> list[Resource]:
        """Return the collections to try, in order."""
        return [Resource(version, self.plural) for version in self.versions]


OURS = (apnode.KIND, apmatrix.KIND, apmigration.KIND, apmigrationpolicy.KIND)
PRODUCT = "app.kubernetes.io/name=vfio-ap-operator"
SOURCES = {
    source.kind: source
    for source in (
        *(Source(kind.name, kind.plural, (kind.api_version,)) for kind in OURS),
        Source("Node", "nodes", ("v1",)),
        Source("Namespace", "namespaces", ("v1",)),
        Source("Pod", "pods", ("v1",), MATRIX),
        Source("Lease", "leases", ("coordination.k8s.io/v1",), own=True),
        Source("Event", "events", ("v1",)),
        Source("Deployment", "deployments", ("apps/v1",), PRODUCT),
        Source("DaemonSet", "daemonsets", ("apps/v1",), PRODUCT),
        Source("VirtualMachine", "virtualmachines", (_KUBEVIRT,)),
        Source("VirtualMachineInstance", "virtualmachineinstances", (_KUBEVIRT,), MATRIX),
        Source("VirtualMachineInstanceMigration", "virtualmachineinstancemigrations", (_KUBEVIRT,)),
        Source("KubeVirt", "kubevirts", (_KUBEVIRT,)),
        Source(
            "CustomResourceDefinition",
            "customresourcedefinitions",
            ("apiextensions.k8s.io/v1",),
            names=(*(f"{kind.plural}.{GROUP}" for kind in OURS), DEFINITION),
        ),
        Source("ValidatingAdmissionPolicy", "validatingadmissionpolicies", (f"{_ADMISSION}/v1",)),
        Source("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", (f"{_ADMISSION}/v1",)),
        Source(
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            (f"{_ADMISSION}/v1", f"{_ADMISSION}/v1beta1"),
        ),
        Source(
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            (f"{_ADMISSION}/v1", f"{_ADMISSION}/v1beta1"),
        ),
        Source("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", (f"{_ADMISSION}/v1",)),
        Source("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", (f"{_ADMISSION}/v1",)),
    )
}
"""Every kind that is looked at, by name."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What was read of a cluster at one moment."""

    kinds: Mapping[str, tuple[Document, ...]] = field(default_factory=dict)
    """Objects by kind; a kind that is not here was not asked for."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """By kind, why its objects could not be read. Not known is not the same as none."""
    unserved: frozenset[str] = frozenset()
    """Kinds that the API server does not have."""
    now: datetime.datetime | None = None
    """The API server's clock, or when the archive was made; None when that is not known."""
    where: str = ""
    """For people: the server, the file."""
    system: str = "vfio-ap-system"
    """Namespace of the operator and of the agents' Leases."""
    version: str = ""
    """Of the API server."""

    def of(self, kind: str) -> tuple[Document, ...]:
        """Return the objects of a kind, none where none were read."""
        return self.kinds.get(kind, ())

    def one(self, kind: str, name: str, namespace: str = "") -> Document | None:
        """Return an object, None when it is not there."""
        for document in self.of(kind):
            metadata = document["metadata"]
            if metadata["name"] == name and (not namespace or metadata.get("namespace", "") == namespace):
                return document
        return None

    def offline(self) -> bool:
        """Tell whether these come from files and not from a cluster."""
        return not self.where.startswith("https:") and not self.where.startswith("http:")

    def overlaid(self, documents: Iterable[Document]) -> Documents:
        """Return the same with these objects in the place of those with their kind, namespace and name."""
        kinds = {kind: list(items) for kind, items in self.kinds.items()}
        for document in documents:
            items = kinds.setdefault(str(document.get("kind")), [])
            items[:] = [item for item in items if identity(item) != identity(document)] + [document]
        return replace(self, kinds={kind: tuple(items) for kind, items in kinds.items()})


def identity(document: Document) -> tuple[str, str]:
    """Return namespace and name."""
    metadata = document.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
