"""The cluster as it would be if files were applied: their objects in the place of those that are there. Pure.

What the API server and KubeVirt would add is added: a new generation where the spec differs, the time of creation,
the launcher pod of a VM. What they would refuse is told.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from vfio_ap.errors import Refusal
from vfio_ap_api.apmatrix import APMatrixSpec
from vfio_ap_api.apmigrationpolicy import APMigrationPolicySpec
from vfio_ap_api.apnode import APNodeSpec
from vfio_ap_cli.reading.documents import Document, Documents, identity
from vfio_ap_kube.snapshot.names import GATE, MATRIX

_SPECS: dict[str, type[BaseModel]] = {
    "APMatrix": APMatrixSpec,
    "APNode": APNodeSpec,
    "APMigrationPolicy": APMigrationPolicySpec,
}
_GUESTS = ("VirtualMachine", "VirtualMachineInstance")
KINDS = (*_SPECS, *_GUESTS)
"""Kinds whose effect can be foretold."""
_TO_COME = "00000000-0000-0000-0000-{:012x}"
"""Stands for a UUID that the operator will assign."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object of the files."""

    kind: str
    name: str
    namespace: str = ""
    verb: str = ""
    """``create``, ``change`` or ``unchanged``."""
    refusal: Refusal | None = None
    """Why the API server would not take it."""
    matrix: str = ""
    """Of a VM, the matrix that it asks for."""


def overlaid(
    documents: Documents, files: Iterable[Document], namespace: str
) -> tuple[Documents, list[Wanted], list[str]]:
    """Return the cluster to be, what was wanted, and names of objects that are not of this product.

    ``namespace`` is that of objects that name none.
    """
    found: list[Wanted] = []
    strangers: list[str] = []
    added: list[Document] = []
    given = list(files)
    matrices = {str(d["metadata"]["name"]) for d in (*documents.of("APMatrix"), *given) if d["kind"] == "APMatrix"}
    for number, file in enumerate(given):
        kind, name = str(file["kind"]), str(file["metadata"]["name"])
        if kind not in KINDS:
            strangers.append(f"{kind.lower()}/{name}")
            continue
        space = str(file["metadata"].get("namespace") or namespace) if kind in _GUESTS else ""
        document = {**file, "metadata": {**file["metadata"], **({"namespace": space} if space else {})}}
        old = next((item for item in documents.of(kind) if identity(item) == identity(document)), None)
        if kind in _GUESTS:
            matrix = _annotation(document)
            verb = "change" if old else "create"
            found.append(Wanted(kind, name, space, verb, _guest_refusal(document, matrix, matrices), matrix))
            if matrix and not any(_runs(pod, name, space) for pod in documents.of("Pod")):
                added.append(pod_to_be(document, matrix, number))
            continue
        refusal = _refusal(kind, document, old)
        verb = "create" if old is None else "unchanged" if _same(kind, old, document) else "change"
        found.append(Wanted(kind, name, verb=verb, refusal=refusal))
        if refusal is None and verb != "unchanged":
            added.append(_applied(kind, document, old, number, documents.now))
    return documents.overlaid(added), found, strangers


def _same(kind: str, old: Document, new: Document) -> bool:
    """Tell whether two specs say the same, defaults included."""
    model = _SPECS[kind]
    try:
        first, second = (model.model_validate(_spec(kind, document, old)) for document in (old, new))
    except ValidationError:
        return False
    labels = [(d["metadata"].get("labels") or {}) for d in (old, new)]
    return first == second and labels[0] == labels[1]


def _spec(kind: str, document: Document, old: Document | None) -> Any:  # noqa: ANN401 - whatever the file has
    """Return the spec to be; of an APNode only hostReserved is the administrator's, the rest stays."""
    spec = document.get("spec") or {}
    if kind != "APNode" or old is None or not isinstance(spec, dict):
        return spec
    kept = {key: value for key, value in (old.get("spec") or {}).items() if key not in spec}
    return {**kept, **spec, "mdevs": (old.get("spec") or {}).get("mdevs") or []}


def _refusal(kind: str, document: Document, old: Document | None) -> Refusal | None:
    name = str(document["metadata"]["name"])
    if kind == "APNode" and old is None:
        return Refusal("NoSuchNode", name, "there is no such APNode, and only its node's agent makes it")
    try:
        _SPECS[kind].model_validate(_spec(kind, document, old))
    except ValidationError as error:
        first = error.errors()[0]
        where = "spec." + ".".join(str(part) for part in first["loc"])
        return Refusal("InvalidSpec", name, f"{where}: {first['msg']}", "correct the field")
    if kind != "APMatrix":
        return None
    uuid = (document.get("spec") or {}).get("uuid")
    known = ((old or {}).get("status") or {}).get("uuid") or ((old or {}).get("spec") or {}).get("uuid")
    if known and uuid and uuid != known:
        text = f"spec.uuid {uuid} differs from {known}, and it never changes"
        return Refusal("UuidChanged", name, text, "make a new APMatrix instead")
    return None


def _applied(
    kind: str, document: Document, old: Document | None, number: int, now: datetime.datetime | None
) -> Document:
    """Return the object as it would be stored; its status is what the operator said before."""
    metadata = dict((old or {}).get("metadata") or {})
    stamp = (now or datetime.datetime.max.replace(tzinfo=datetime.UTC)).isoformat()
    metadata.setdefault("creationTimestamp", stamp)
    metadata["generation"] = int(metadata.get("generation", 0)) + 1
    given = document["metadata"]
    metadata |= {key: given[key] for key in ("name", "labels", "annotations") if key in given}
    status = dict((old or {}).get("status") or {})
    if kind == "APMatrix":
        uuid = (document.get("spec") or {}).get("uuid")
        status.setdefault("uuid", uuid or _TO_COME.format(number + 1))
    return {**document, "metadata": metadata, "spec": _spec(kind, document, old), "status": status}


def assigned(uuid: str) -> str:
    """Return a UUID for people: one that the operator will assign is said so."""
    return "to be assigned" if uuid.startswith("00000000-0000-0000-0000-") else uuid


def _template(document: Document) -> Document:
    if document["kind"] == "VirtualMachine":
        return (document.get("spec") or {}).get("template") or {}
    return document


def _annotation(document: Document) -> str:
    metadata = _template(document).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(MATRIX) or "")


def _guest_refusal(document: Document, matrix: str, known: set[str]) -> Refusal | None:
    if not matrix or matrix in known:
        return None
    text = f"asks for matrix {matrix}, which does not exist"
    return Refusal("NoSuchMatrix", str(document["metadata"]["name"]), text, "make the APMatrix first")


def _runs(pod: Document, name: str, namespace: str) -> bool:
    metadata = pod["metadata"]
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    labels = metadata.get("labels") or {}
    return not ended and metadata.get("namespace") == namespace and labels.get("vm.kubevirt.io/name") == name


def pod_to_be(document: Document, matrix: str, number: int) -> Document:
    """Return the launcher pod that KubeVirt would make for a VM, as the gate sees it."""
    metadata, spec = document["metadata"], _template(document).get("spec") or {}
    labels = {MATRIX: matrix, "vm.kubevirt.io/name": metadata["name"], "kubevirt.io/created-by": f"new-{number}"}
    placing = {key: spec[key] for key in ("nodeSelector", "affinity", "tolerations") if key in spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"virt-launcher-{metadata['name']}",
            "namespace": metadata["namespace"],
            "uid": f"new-{number}",
            "labels": labels,
            "creationTimestamp": "9999",
        },
        "spec": {**placing, "schedulingGates": [{"name": GATE}]},
    }
