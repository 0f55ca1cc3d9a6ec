"""The patches that let launcher pods go. No I/O."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.launchers import HOSTNAME
from vfio_ap_kube.snapshot.names import GATE, PIN


def lift_patch(document: dict[str, Any], hostname: str, *, note: bool = False) -> list[dict[str, Any]]:
    """Return the JSON patch that lifts our gate and, with a hostname, pins the pod: one step, or none at all.

    With ``note`` the pod says that the pin is ours, which of a migration's target is known without.

    After it the pod's placement is immutable, so both belong in one patch (tried on Kubernetes 1.36). Empty when
    the gate is gone already.
    """
    spec = document.get("spec") or {}
    names = [gate.get("name") for gate in spec.get("schedulingGates") or []]
    if GATE not in names:
        return []
    index = names.index(GATE)
    patch: list[dict[str, Any]] = []
    selector = spec.get("nodeSelector")
    if hostname and (selector or {}).get(HOSTNAME) != hostname:
        if selector is None:
            patch.append({"op": "add", "path": "/spec/nodeSelector", "value": {}})
        key = HOSTNAME.replace("/", "~1")
        patch.append({"op": "add", "path": f"/spec/nodeSelector/{key}", "value": hostname})
        if note:
            if not document["metadata"].get("annotations"):
                patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
            pin = PIN.replace("/", "~1")
            patch.append({"op": "add", "path": f"/metadata/annotations/{pin}", "value": hostname})
    path = f"/spec/schedulingGates/{index}"
    patch.append({"op": "test", "path": f"{path}/name", "value": GATE})
    patch.append({"op": "remove", "path": path})
    return patch
