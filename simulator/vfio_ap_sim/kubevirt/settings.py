"""How KubeVirt is configured, and the KubeVirt object that says so. Data and one function; talks to nobody."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfio_ap_sim.kubevirt.api import API_VERSION, NAMESPACE, Document

GATES = ("Sidecar", "ReservedOverheadMemlock")
"""What a VM with a matrix needs; both are alpha and off in v1.8.4 (pkg/virt-config/featuregate/active.go)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """An installation's configuration."""

    feature_gates: tuple[str, ...] = GATES
    mediated_devices: Document | None = field(default_factory=lambda: {"enabled": False})
    """``mediatedDevicesConfiguration``. Without ``enabled: false`` every virt-handler removes foreign mdevs."""
    permitted_host_devices: Document | None = None
    """``permittedHostDevices``."""
    migrations: Document | None = None
    """``migrations``: limits, timeouts, ``allowPostCopy``."""
    default_architecture: str = "s390x"


def kubevirt(settings: Settings) -> Document:
    """Return the KubeVirt object, without its status."""
    optional = {
        "mediatedDevicesConfiguration": settings.mediated_devices,
        "permittedHostDevices": settings.permitted_host_devices,
        "migrations": settings.migrations,
    }
    configuration: Document = {"developerConfiguration": {"featureGates": list(settings.feature_gates)}}
    configuration |= {name: value for name, value in optional.items() if value is not None}
    return {
        "apiVersion": API_VERSION,
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
        "spec": {"configuration": configuration},
    }


def status(settings: Settings, version: str) -> Document:
    """Return what virt-operator would have written once everything runs; virt-api and virt-controller read it."""
    return {
        "phase": "Deployed",
        "defaultArchitecture": settings.default_architecture,
        "observedKubeVirtVersion": version,
        "targetKubeVirtVersion": version,
        "operatorVersion": version,
    }
