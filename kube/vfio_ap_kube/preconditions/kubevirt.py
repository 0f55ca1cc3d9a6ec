"""Whether KubeVirt, as it is configured, leaves our devices alone and lets VMs use them. Pure.

virt-handler removes every mediated device that its configuration does not know, once a minute or two: a guest's
AP bus goes empty while the VM looks healthy (KubeVirt pkg/virt-handler/device-manager/mediated_devices_types.go;
facts: kubevirt 1.0). Its own device plugin may hand our devices out by type. Without two feature gates a VM with a
matrix is accepted and fails late, and by post-copy QEMU moves no VFIO device (hw/vfio/migration.c). Before 1.8 a
VM cannot ask for what VFIO needs at all: that is told by the field in KubeVirt's own definition, not by a version.
Nothing is provisioned until all of it is as it must be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vfio_ap.errors import Refusal

OVERRIDE = "ap.s390x.io/skip-kubevirt-check"
"""Annotation on the KubeVirt object that takes the responsibility from us."""
GATES = ("Sidecar", "ReservedOverheadMemlock")
DEFINITION = "virtualmachineinstances.kubevirt.io"
"""The CustomResourceDefinition that shows what a VM can ask for."""
LOCK = ("spec", "domain", "memory", "reservedOverhead", "memLock")
"""By this field a VM has QEMU allowed to lock its memory (api/core/v1/schema.go:ReservedOverhead of v1.8)."""
_TYPE_NAME = "VFIO AP Passthrough Device"


def refusal_of(
    kubevirts: Iterable[dict[str, Any]], namespace: str | None = None, definition: dict[str, Any] | None = None
) -> Refusal | None:
    """Return why nothing may be provisioned beside these KubeVirt objects, with what mends it.

    Args:
        kubevirts: the KubeVirt objects, one as a rule.
        namespace: where the chart's policies look for KubeVirt, None where that is not known.
        definition: the object named ``DEFINITION``; without one there are no VMs, and so nothing to say of it.
    """
    for document in kubevirts:
        metadata = document["metadata"]
        if (metadata.get("annotations") or {}).get(OVERRIDE) == "true":
            continue
        if definition is not None and (found := outdated(document, definition)):
            return found
        if namespace is not None and (found := misplaced(document, namespace)):
            return found
        configuration = (document.get("spec") or {}).get("configuration") or {}
        if unsafe := _unsafe(configuration):
            message, patch = unsafe
            where = f"kubevirt {metadata['name']} -n {metadata.get('namespace', 'kubevirt')}"
            text = json.dumps({"spec": {"configuration": patch}}, separators=(",", ":"))
            return Refusal(
                "KubeVirtUnsafe",
                f"KubeVirt {metadata.get('namespace', '')}/{metadata['name']}",
                message,
                f"kubectl patch {where} --type=merge -p '{text}'",
            )
    return None


def outdated(document: dict[str, Any], definition: dict[str, Any]) -> Refusal | None:
    """Return why a KubeVirt, by its definition of a VM, is too old for one with a matrix, None when it is not.

    Every version that is served must have the field: which of them somebody writes, nobody knows, and what is not
    in the schema is dropped without a word.
    """
    served = [version for version in (definition.get("spec") or {}).get("versions") or [] if version.get("served")]
    if served and all(_has(version.get("schema") or {}, LOCK) for version in served):
        return None
    metadata = document["metadata"]
    return Refusal(
        "KubeVirtTooOld",
        f"KubeVirt {metadata.get('namespace', '')}/{metadata['name']}",
        f"{_version(document)} does not know {'.'.join(LOCK)} of a VM, without which QEMU may not lock the "
        "guest's memory, as it must for an AP device",
        "upgrade KubeVirt to 1.8 or newer",
    )


def misplaced(document: dict[str, Any], namespace: str) -> Refusal | None:
    """Return why the chart's policies would refuse this KubeVirt's pods, None when they look where it is.

    Pods with a matrix are taken from its controller alone, and a service account has its namespace in its name.
    """
    where = str(document["metadata"].get("namespace", ""))
    if where == namespace:
        return None
    return Refusal(
        "KubeVirtElsewhere",
        f"KubeVirt {where}/{document['metadata']['name']}",
        f"the chart's policies look for KubeVirt in namespace {namespace}, and would refuse the pods of its VMs",
        f"upgrade the chart with --reuse-values --set kubevirt.namespace={where}",
    )


def _has(schema: dict[str, Any], path: tuple[str, ...]) -> bool:
    inner: Any = schema.get("openAPIV3Schema")
    for name in path:
        inner = (inner or {}).get("properties", {}).get(name)
    return inner is not None


def _version(document: dict[str, Any]) -> str:
    """Return what KubeVirt calls itself, for people."""
    status = document.get("status") or {}
    return str(status.get("observedKubeVirtVersion") or status.get("targetKubeVirtVersion") or "this version")


def _unsafe(configuration: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return what is wrong and the merge patch of the configuration that mends all of it at once."""
    wrong: list[str] = []
    patch: dict[str, Any] = {}
    if not _sweep_is_off(configuration):
        wrong.append("virt-handler would delete the devices")
        patch["mediatedDevicesConfiguration"] = {"enabled": False}
    if _hands_out(configuration):
        wrong.append("its own device plugin offers vfio_ap devices by type")
        devices = configuration.get("permittedHostDevices") or {}
        kept = [item for item in devices.get("mediatedDevices") or [] if not _ours_by_type(item)]
        patch["permittedHostDevices"] = {"mediatedDevices": kept}
    gates = list((configuration.get("developerConfiguration") or {}).get("featureGates") or [])
    missing = [gate for gate in GATES if gate not in gates]
    if missing:
        wrong.append(f"feature gates {' and '.join(missing)} are off, without which a VM with a matrix fails late")
        patch["developerConfiguration"] = {"featureGates": [*gates, *missing]}
    if (configuration.get("migrations") or {}).get("allowPostCopy"):
        wrong.append("migrations may go on by post-copy, by which QEMU moves no guest with an AP device")
        patch["migrations"] = {"allowPostCopy": False}
    return ("; ".join(wrong), patch) if wrong else None


def _sweep_is_off(configuration: dict[str, Any]) -> bool:
    """Tell whether one of the guards against the sweep is there (virt-config.go:549-555, keep list)."""
    mediated = configuration.get("mediatedDevicesConfiguration") or {}
    gates = (configuration.get("developerConfiguration") or {}).get("featureGates") or []
    kept = any(
        item.get("mdevNameSelector") == _TYPE_NAME and item.get("externalResourceProvider")
        for item in (configuration.get("permittedHostDevices") or {}).get("mediatedDevices") or []
    )
    return mediated.get("enabled") is False or "DisableMDEVConfiguration" in gates or kept


def _ours_by_type(item: dict[str, Any]) -> bool:
    name = str(item.get("mdevNameSelector", "")).replace("_", " ")
    return name == _TYPE_NAME and not item.get("externalResourceProvider")


def _hands_out(configuration: dict[str, Any]) -> bool:
    devices = configuration.get("permittedHostDevices") or {}
    return any(_ours_by_type(item) for item in devices.get("mediatedDevices") or [])
