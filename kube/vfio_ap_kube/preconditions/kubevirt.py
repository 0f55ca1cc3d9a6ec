"""Whether KubeVirt, as it is configured, leaves our devices alone and lets VMs use them. Pure.

virt-handler removes every mediated device that its configuration does not know, once a minute or two: a guest's
AP bus goes empty while the VM looks healthy (KubeVirt pkg/virt-handler/device-manager/mediated_devices_types.go;
facts: kubevirt 1.0). Its own device plugin may hand our devices out by type. Without two feature gates a VM with a
matrix is accepted and fails late, and by post-copy QEMU moves no VFIO device (hw/vfio/migration.c). Nothing is
provisioned until all of it is as it must be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vfio_ap.errors import Refusal

OVERRIDE = "ap.s390x.io/skip-kubevirt-check"
"""Annotation on the KubeVirt object that takes the responsibility from us."""
GATES = ("Sidecar", "ReservedOverheadMemlock")
_TYPE_NAME = "VFIO AP Passthrough Device"


def refusal_of(kubevirts: Iterable[dict[str, Any]]) -> Refusal | None:
    """Return why nothing may be provisioned beside these KubeVirt objects, with the patch that mends it."""
    for document in kubevirts:
        metadata = document["metadata"]
        if (metadata.get("annotations") or {}).get(OVERRIDE) == "true":
            continue
        configuration = (document.get("spec") or {}).get("configuration") or {}
        if found := _unsafe(configuration):
            message, patch = found
            where = f"kubevirt {metadata['name']} -n {metadata.get('namespace', 'kubevirt')}"
            text = json.dumps({"spec": {"configuration": patch}}, separators=(",", ":"))
            return Refusal(
                "KubeVirtUnsafe",
                f"KubeVirt {metadata.get('namespace', '')}/{metadata['name']}",
                message,
                f"kubectl patch {where} --type=merge -p '{text}'",
            )
    return None


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
