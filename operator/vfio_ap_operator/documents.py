"""What the operator writes, as documents: node specs, matrix status, namespace labels. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vfio_ap.errors import Refusal
from vfio_ap.fleet.placement import Standing
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.summary import Summary
from vfio_ap.fleet.views import Desired, MatrixView, ids_text
from vfio_ap_api import apmatrix, apmigrationpolicy, apnode
from vfio_ap_kube import conditions
from vfio_ap_kube.snapshot.names import USE_LABEL

_LISTED = 100
"""Nodes named in a matrix's status; further ones are only counted."""
_SPACE = uuid.UUID("6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11")


def assigned_uuid(uid: str) -> str:
    """Return the UUID of the matrix with this object UID; the same after any crash."""
    return str(uuid.uuid5(_SPACE, uid))


def node_spec(name: str, node_uid: str, desired: Sequence[Desired], read_back: frozenset[str]) -> dict[str, Any]:
    """Return the APNode with the spec that its node shall have, owned by its Node."""
    mdevs = [
        {
            "uuid": item.uuid,
            "matrix": item.matrix,
            **ids_text(item.configuration),
            "granted": item.granted,
            "adopt": item.adopt,
            **({"frozen": True} if item.frozen else {}),
            **({"migratable": True} if item.migratable else {}),
        }
        for item in desired
    ]
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid}
    return {
        "apiVersion": apnode.KIND.api_version,
        "kind": apnode.KIND.name,
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"mdevs": mdevs, "readBack": ",".join(sorted(read_back))},
    }


def listed(document: dict[str, Any] | None) -> int:
    """Return how many devices an APNode's spec lists, whether they make sense or not."""
    return len(((document or {}).get("spec") or {}).get("mdevs") or [])


def matrix_status(
    view: MatrixView,
    generation: int,
    old: dict[str, Any],
    summary: Summary,
    standings: Iterable[Standing],
    now: str,
) -> dict[str, Any]:
    """Return the status of an APMatrix; ``now`` is used for conditions whose status changed."""
    verdicts = [
        {
            "type": verdict.type,
            "status": str(verdict.status),
            "reason": verdict.reason,
            "message": verdict.message,
            "observedGeneration": generation,
        }
        for verdict in summary.conditions
    ]
    telling = [s for s in standings if s.state != "Available" or s.in_use]
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "adapters": str(view.matrix.adapters),
        "domains": str(view.matrix.domains),
        "state": summary.state,
        "ready": f"{summary.good}/{summary.chosen}",
        "usedBy": summary.used_by,
        "nodes": [_node(standing) for standing in telling[:_LISTED]],
        "conditions": conditions.merged(old.get("conditions") or [], verdicts, now),
    }
    assigned = view.uuid or old.get("uuid")
    return status | ({"uuid": assigned} if assigned else {})


def _node(standing: Standing) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": standing.node, "state": standing.state}
    if standing.reason:
        entry["reason"] = standing.reason
    if standing.message:
        entry["message"] = standing.message[:1024]
    if standing.in_use:
        entry["inUse"] = True
    return entry


def matrix_with_status(name: str, status: dict[str, Any]) -> dict[str, Any]:
    """Return the APMatrix document that applies the status."""
    return {
        "apiVersion": apmatrix.KIND.api_version,
        "kind": apmatrix.KIND.name,
        "metadata": {"name": name},
        "status": status,
    }


def policy_status(
    view: PolicyView, generation: int, old: dict[str, Any], refusal: Refusal | None, matrices: int, now: str
) -> dict[str, Any]:
    """Return the APMigrationPolicy document that applies its status: for what it stands, or why not."""
    word = {
        "type": "Effective",
        "status": str(refusal is None),
        "reason": refusal.reason if refusal else "Effective",
        "message": str(refusal) if refusal else f"stands for {matrices} matrices",
        "observedGeneration": generation,
    }
    return {
        "apiVersion": apmigrationpolicy.KIND.api_version,
        "kind": apmigrationpolicy.KIND.name,
        "metadata": {"name": view.name},
        "status": {
            "observedGeneration": generation,
            "state": refusal.reason if refusal else "Effective",
            "matrices": matrices,
            "conditions": conditions.merged(old.get("conditions") or [], [word], now),
        },
    }


def namespace_labels(current: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return the merge patch that turns the UUIDs by admitted matrix into others; empty when they are the same."""
    labels: dict[str, str | None] = {
        USE_LABEL + name: uuid for name, uuid in sorted(wanted.items()) if current.get(name) != uuid
    }
    labels |= {USE_LABEL + name: None for name in sorted(current.keys() - wanted.keys())}
    return {"metadata": {"labels": labels}} if labels else {}
