"""What admission adds to a pod that takes a matrix: a pure function from object to JSON patch.

API servers call a second time when others changed the object: what is there already is not added again.
"""

from __future__ import annotations

from vfio_ap_kube.client import Document
from vfio_ap_kube.snapshot.names import GATE, HOLD, MATRIX, MIGRATION_LABEL
from vfio_ap_operator.admission.patch import Patch, add
from vfio_ap_operator.admission.sidecar import Sidecar

_RESOURCE = "ap.s390x.io/"
_VOLUME = "vfio-ap-hold"
_PROBE = {
    "exec": {"command": ["vfio-ap-hook", "ready"]},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 10,
}


def pod_patch(pod: Document, sidecar: Sidecar) -> Patch:
    """Return what to change of a pod that takes a matrix; a migration's target is held as well."""
    metadata, spec = pod["metadata"], pod["spec"]
    containers: list[Document] = spec["containers"]
    names = [name for container in containers for name in sorted(_limits(container)) if name.startswith(_RESOURCE)]
    if not names:
        return []
    patch: Patch = []
    if metadata.get("labels") is None:
        patch.append(add({}, "metadata", "labels"))
    patch.append(add(names[0].removeprefix(_RESOURCE), "metadata", "labels", MATRIX))
    gates = spec.get("schedulingGates")
    if not any(gate["name"] == GATE for gate in gates or ()):
        gate = {"name": GATE}
        patch.append(
            add(gate, "spec", "schedulingGates", "-") if gates else add([gate], "spec", "schedulingGates")
        )
    if MIGRATION_LABEL not in (metadata.get("labels") or {}):
        return patch
    if metadata.get("annotations") is None:
        patch.append(add({}, "metadata", "annotations"))
    patch.append(add("held", "metadata", "annotations", HOLD))
    for index, container in enumerate(containers):
        if sidecar.runs_in(container):
            return patch + _hold(spec.get("volumes"), container, str(index))
    return patch


def _hold(volumes: list[Document] | None, container: Document, index: str) -> Patch:
    """Return what lets the sidecar, the container at the index, see the pod's annotations and answer for them."""
    patch: Patch = []
    if not any(_is_hold_volume(volume) for volume in volumes or ()):
        item = {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}
        volume = {"name": _VOLUME, "downwardAPI": {"items": [item]}}
        if volumes is None:
            patch.append(add([], "spec", "volumes"))
        patch.append(add(volume, "spec", "volumes", "-"))
    mounts = container.get("volumeMounts")
    if not any(mount["name"] == _VOLUME for mount in mounts or ()):
        if mounts is None:
            patch.append(add([], "spec", "containers", index, "volumeMounts"))
        mount = {"name": _VOLUME, "mountPath": "/etc/vfio-ap/hold", "readOnly": True}
        patch.append(add(mount, "spec", "containers", index, "volumeMounts", "-"))
    if container.get("securityContext") is None:
        patch.append(add({}, "spec", "containers", index, "securityContext"))
    # Who may run commands in the sidecar cannot replace the program that answers the probe
    patch.append(add(True, "spec", "containers", index, "securityContext", "readOnlyRootFilesystem"))
    return [*patch, add(_PROBE, "spec", "containers", index, "readinessProbe")]


def _is_hold_volume(volume: Document) -> bool:
    items = (volume.get("downwardAPI") or {}).get("items") or []
    return (
        volume["name"] == _VOLUME
        and len(items) == 1
        and items[0]["path"] == "annotations"
        and (items[0].get("fieldRef") or {}).get("fieldPath") == "metadata.annotations"
    )


def _limits(container: Document) -> Document:
    return (container.get("resources") or {}).get("limits") or {}
