"""What virt-operator would install, from KubeVirt's own generators, made to fit servers on loopback.

Functions from data to data, but for ``generated``, which runs the printer (``controlplane/go/kubevirt``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vfio_ap_kube.client import Resource
from vfio_ap_sim.controlplane import CommandFailedError
from vfio_ap_sim.kubevirt.api import NAMESPACE, Document

SERVICE = "virt-api"
_CALLS_VIRT_API = ("APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything to create, in the order of the fields."""

    definitions: list[Document]
    """CRDs; they have to be established before the rest is used."""
    objects: list[Document]
    """Service accounts, rights, policies."""
    callers: list[Document]
    """Webhooks and API services: most fail closed, so virt-api has to listen before they are there."""


async def generated(printer: Path) -> list[Document]:
    """Return the objects as the printer prints them. Raises CommandFailedError."""
    process = await asyncio.create_subprocess_exec(
        printer, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaint = await process.communicate()
    if process.returncode:
        raise CommandFailedError(printer.name, f"ended with {process.returncode}: {complaint.decode().strip()}")
    objects: list[Document] = json.loads(printed)
    return objects


def arranged(objects: Iterable[Document], ca: str, port: int) -> Manifests:
    """Sort the printed objects and let those that call virt-api find it: ``ca`` in base64, its ``port``.

    A Service of type ExternalName keeps the port of whoever calls it, so each caller names virt-api's own.
    """
    found = Manifests([], [], [])
    for printed in objects:
        document = {name: value for name, value in printed.items() if name != "status"}
        if document["kind"].startswith("ValidatingAdmissionPolicy"):
            document["apiVersion"] = "admissionregistration.k8s.io/v1"  # they are printed without their group
        if document["kind"] == "CustomResourceDefinition":
            found.definitions.append(document)
        elif document["kind"] in _CALLS_VIRT_API:
            found.callers.append(_calling(document, ca, port))
        else:
            found.objects.append(document)
    return found


def resource(document: Document) -> Resource:
    """Return the collection that a document is to be created in."""
    kind: str = document["kind"]
    name = kind.lower()
    plural = (
        f"{name.removesuffix('y')}ies" if name.endswith("y") else f"{name}es" if name.endswith("s") else f"{name}s"
    )
    return Resource(document["apiVersion"], plural, document["metadata"].get("namespace", ""))


def namespace() -> Document:
    """Return KubeVirt's namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def service() -> Document:
    """Return the Service that leads to virt-api; not by EndpointSlices, which may not hold a loopback address."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }


def authority(pem: str) -> Document:
    """Return the ConfigMap from which KubeVirt's parts know each other's certificates."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubevirt-ca", "namespace": NAMESPACE},
        "data": {"ca-bundle": pem},
    }


def _calling(document: Document, ca: str, port: int) -> Document:
    if document["kind"] == "APIService":
        spec = document["spec"]
        return {**document, "spec": {**spec, "caBundle": ca, "service": {**spec["service"], "port": port}}}
    webhooks = [
        {
            **webhook,
            "clientConfig": {
                "caBundle": ca,
                "service": {**webhook["clientConfig"]["service"], "port": port},
            },
        }
        for webhook in document["webhooks"]
    ]
    return {**document, "webhooks": webhooks}
