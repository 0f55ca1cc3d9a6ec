"""Whether virt-handler calls a VMI live-migratable, and why not. A function from data to data.

After calculateLiveMigrationCondition and what it calls (pkg/virt-handler/vm.go:1195 of v1.8.4), in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vfio_ap_sim.kubevirt.api import Document

BRIDGE_ALLOWED: Final = "kubevirt.io/allow-pod-bridge-network-live-migration"
_SHARED: Final = "live migration requires that all PVCs must be shared (using ReadWriteMany access mode)"


def condition(vmi: Document) -> Document:
    """Return the condition LiveMigratable."""
    for reason, check in _CHECKS:
        if message := check(vmi):
            return {"type": "LiveMigratable", "status": "False", "reason": reason, "message": message}
    return {"type": "LiveMigratable", "status": "True"}


def storage_condition(vmi: Document) -> Document:
    """Return the condition StorageLiveMigratable, which names all that is in the way, disks left out."""
    found = [(reason, check(vmi)) for reason, check in _CHECKS if check in (_interfaces, _host_devices)]
    if reasons := [f"{reason}: {message}" for reason, message in found if message]:
        text = ", ".join(reasons)
        return {"type": "StorageLiveMigratable", "status": "False", "reason": "NotMigratable", "message": text}
    return {"type": "StorageLiveMigratable", "status": "True"}


def method(vmi: Document) -> str:
    """Return the migration's method: by blocks where something of the guest is only on its node."""
    local = [name for name, source in _volumes(vmi) if not source.keys() & {"persistentVolumeClaim", "dataVolume"}]
    return "BlockMigration" if any(name not in _read_only(vmi) for name in local) else "LiveMigration"


def _interfaces(vmi: Document) -> str:
    interfaces = vmi["spec"]["domain"].get("devices", {}).get("interfaces", ())
    networks = vmi["spec"].get("networks", ())
    pod = next((network["name"] for network in networks if "pod" in network), None)
    if not interfaces or pod is None:
        return ""
    primary = next((interface for interface in interfaces if interface["name"] == pod), None)
    if primary is None:
        return f"no primary interface found for network {pod}"
    if "masquerade" in primary or "passtBinding" in primary:
        return ""
    if "bridge" in primary and BRIDGE_ALLOWED in vmi["metadata"].get("annotations", {}):
        return ""
    return "cannot migrate VMI which does not use masquerade or a migratable plugin to connect to the pod network"


def _host_devices(vmi: Document) -> str:
    devices = vmi["spec"]["domain"].get("devices", {})
    return "VMI uses a PCI host devices" if devices.get("hostDevices") or devices.get("gpus") else ""


def _secure_execution(vmi: Document) -> str:
    security = vmi["spec"]["domain"].get("launchSecurity")
    return "VMI uses Secure Execution" if security is not None else ""


def _disks(vmi: Document) -> str:
    claims = {v["name"]: v.get("persistentVolumeClaimInfo") for v in vmi.get("status", {}).get("volumeStatus", ())}
    for name, source in _volumes(vmi):
        if claim := source.get("persistentVolumeClaim") or source.get("dataVolume"):
            claimed = claim.get("claimName") or claim.get("name")
            if (info := claims.get(name)) is None:
                return f"cannot migrate VMI: Unable to determine if PVC {claimed} is shared, {_SHARED}"
            if "ReadWriteMany" not in info.get("accessModes", ()):
                return f"cannot migrate VMI: PVC {claimed} is not shared, {_SHARED}"
        elif "hostDisk" in source and not source["hostDisk"].get("shared"):
            return "cannot migrate VMI with non-shared HostDisk"
    return ""


def _volumes(vmi: Document) -> list[tuple[str, Document]]:
    return [
        (volume["name"], {name: source for name, source in volume.items() if name != "name"})
        for volume in vmi["spec"].get("volumes", ())
    ]


def _read_only(vmi: Document) -> set[str]:
    disks = vmi["spec"]["domain"].get("devices", {}).get("disks", ())
    return {disk["name"] for disk in disks if "cdrom" in disk and disk["cdrom"].get("readonly", True)}


_CHECKS: Final[tuple[tuple[str, Callable[[Document], str]], ...]] = (
    ("InterfaceNotLiveMigratable", _interfaces),
    ("HostDeviceNotLiveMigratable", _host_devices),
    ("SecureExecutionNotLiveMigratable", _secure_execution),
    ("DisksNotLiveMigratable", _disks),
)
