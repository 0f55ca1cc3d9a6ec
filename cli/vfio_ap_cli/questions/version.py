"""Which versions run where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from vfio_ap_cli.snapshot import Snapshot

KINDS = ("APNode", "Deployment", "KubeVirt")
"""Kinds that are looked at."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What runs, empty where it is not known."""

    client: str
    kubernetes: str = ""
    kubevirt: str = ""
    operator: str = ""
    agents: Mapping[str, int] = field(default_factory=dict)
    """Nodes by the version of their agent."""
    problem: str = ""


def answer(client: str, snapshot: Snapshot) -> Versions:
    """Return the versions of a cluster."""
    documents = snapshot.documents
    kubevirt = next(iter(documents.of("KubeVirt")), {})
    operator = documents.one("Deployment", "vfio-ap-operator") or {}
    containers = (((operator.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers") or []
    return Versions(
        client=client,
        kubernetes=documents.version,
        kubevirt=str((kubevirt.get("status") or {}).get("observedKubeVirtVersion") or ""),
        operator=", ".join(str(container.get("image", "")) for container in containers),
        agents=dict(Counter(status.agent_version or "unknown" for status in snapshot.statuses.values())),
    )
