"""What the operator can be told from outside, by flags or the environment variables named here."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from vfio_ap_operator.admission.settings import WebhookSettings

FINALIZER = "ap.s390x.io/devices"
"""Keeps an APMatrix until no node holds its devices."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator's settings."""

    namespace: str
    """Namespace of the operator, its Lease and the agents' Leases."""
    identity: str
    """Name of this replica in the leader Lease."""
    health_host: str
    """Address of the health endpoint; in a pod its own address, so that nothing else listens."""
    health_port: int
    kubevirt: str = "kubevirt"
    """Namespace in which the chart's policies look for KubeVirt and its controller."""
    webhook: WebhookSettings | None = None
    """Of the admission webhook; None where policies stand for it."""
    agent_silence: float = 45.0
    """Seconds without a renewed Lease after which an agent counts as silent."""
    resync: float = 600.0
    """Seconds between full comparisons with the API server."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Return the settings of POD_NAMESPACE, POD_NAME, POD_IP, HEALTH_PORT and KUBEVIRT_NAMESPACE.

        Those that are not set are a workstation's. Those of the webhook come from variables of its own. Raises
        ValueError.
        """
        return cls(
            namespace=os.environ.get("POD_NAMESPACE", "vfio-ap-system"),
            identity=os.environ.get("POD_NAME", socket.gethostname()),
            health_host=os.environ.get("POD_IP", "127.0.0.1"),
            health_port=int(os.environ.get("HEALTH_PORT", "8080")),
            kubevirt=os.environ.get("KUBEVIRT_NAMESPACE", "kubevirt"),
            webhook=WebhookSettings.from_environment(),
        )
