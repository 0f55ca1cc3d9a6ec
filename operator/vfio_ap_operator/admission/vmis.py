"""What admission adds to a VirtualMachineInstance with a matrix: a pure function from object to JSON patch.

API servers call a second time when others changed the object: what is there already is not added again.
"""

from __future__ import annotations

from vfio_ap_kube.client import Document
from vfio_ap_kube.snapshot.names import USE_LABEL
from vfio_ap_operator.admission.patch import Patch, add
from vfio_ap_operator.admission.sidecar import Sidecar

MATRIX = "ap.s390x.io/matrix"
"""The user's request, an annotation; admission writes a label of the same name, for selectors."""
UUID = "ap.s390x.io/uuid"
"""The UUID of the matrix's device, for the sidecar."""
HOOKS = "hooks.kubevirt.io/hookSidecars"
"""A JSON list of hook sidecars."""

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What CEL's ``trim`` takes away: Unicode's White_Space. Python's own ``strip`` takes four more."""


def vmi_patch(vmi: Document, labels: dict[str, str], sidecar: Sidecar, strategy: str | None) -> Patch:
    """Return what to change of a VMI in a namespace with ``labels``; nothing where it may not use the matrix.

    ``strategy`` is the evictionStrategy to give it where the operator evacuates, None to leave each as it is.
    """
    annotations = vmi["metadata"].get("annotations") or {}
    matrix = annotations.get(MATRIX)
    uuid, _, evacuation = labels.get(f"{USE_LABEL}{matrix}", "").partition(".")
    if matrix is None or not uuid:
        return []
    domain: Document = vmi["spec"]["domain"]
    resources, memory = domain.get("resources"), domain.get("memory")
    patch: Patch = []
    if resources is None:
        patch.append(add({}, "spec", "domain", "resources"))
    patch += [
        add({}, "spec", "domain", "resources", kind)
        for kind in ("limits", "requests")
        if (resources or {}).get(kind) is None
    ]
    patch += [
        add("1", "spec", "domain", "resources", kind, f"ap.s390x.io/{matrix}") for kind in ("limits", "requests")
    ]
    if memory is None:
        patch.append(add({}, "spec", "domain", "memory"))
    overhead = (memory or {}).get("reservedOverhead")
    if overhead is None:
        patch.append(add({}, "spec", "domain", "memory", "reservedOverhead"))
    patch.append(add("Required", "spec", "domain", "memory", "reservedOverhead", "memLock"))
    if (overhead or {}).get("addedOverhead") is None:
        patch.append(add("1Gi", "spec", "domain", "memory", "reservedOverhead", "addedOverhead"))
    if strategy is not None:
        patch.append(add("LiveMigrate" if evacuation == "KubeVirt" else strategy, "spec", "evictionStrategy"))
    if vmi["metadata"].get("labels") is None:
        patch.append(add({}, "metadata", "labels"))
    patch.append(add(matrix, "metadata", "labels", MATRIX))
    if UUID not in annotations:
        patch.append(add(uuid, "metadata", "annotations", UUID))
    hooks = merged_hooks(annotations.get(HOOKS, "[]"), sidecar.entry)
    if hooks is not None:
        patch.append(add(hooks, "metadata", "annotations", HOOKS))
    return patch


def merged_hooks(text: str, entry: str) -> str | None:
    """Return a JSON list with the entry as its last element; None where it is that already, or is no list.

    Wherever the result is JSON, so was the text, its elements are kept, and the last one is the entry: only an
    outermost list is touched, and only before its end.
    """
    hooks = text.strip(_SPACE)
    if len(hooks) < 2 or hooks[0] != "[" or hooks[-1] != "]" or hooks.endswith(f"{entry}]"):
        return None
    others = hooks[1:-1].strip(_SPACE)
    return f"[{others}{',' if others else ''}{entry}]"
