"""Launcher pods: from documents to the core's views, and the patches that let them go. No I/O.

The names of labels, gates and annotations are those that admission writes and protects.
"""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.gate import HOSTNAME, PodView
from vfio_ap.fleet.scheduling import Constraints, Expression, Taint, Toleration

MATRIX_LABEL = "ap.s390x.io/matrix"
GATE = "ap.s390x.io/placement"
HOLD = "ap.s390x.io/hold"
MIGRATION_LABEL = "kubevirt.io/migrationJobUID"
_OWNER_LABEL = "kubevirt.io/created-by"
_NAME_LABEL = "vm.kubevirt.io/name"


def pod_view(document: dict[str, Any]) -> PodView | None:
    """Return the view of a pod that asks for a matrix, None for one that has ended."""
    metadata, spec = document["metadata"], document.get("spec") or {}
    status, labels = document.get("status") or {}, metadata.get("labels") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    gates = [gate.get("name") for gate in spec.get("schedulingGates") or []]
    conditions = status.get("conditions") or []
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        matrix=labels.get(MATRIX_LABEL, ""),
        owner=labels.get(_OWNER_LABEL) or metadata["uid"],
        vm=labels.get(_NAME_LABEL, ""),
        created=str(metadata.get("creationTimestamp", "")),
        node=str(spec.get("nodeName") or ""),
        gated=GATE in gates,
        held=(metadata.get("annotations") or {}).get(HOLD) == "held",
        target=MIGRATION_LABEL in labels,
        unschedulable=any(
            c.get("type") == "PodScheduled" and c.get("reason") == "Unschedulable" for c in conditions
        ),
        constraints=_constraints(spec),
    )


def taints(node: dict[str, Any]) -> tuple[Taint, ...]:
    """Return a Node's taints."""
    return tuple(
        Taint(str(t.get("key", "")), str(t.get("effect", "")), str(t.get("value") or ""))
        for t in (node.get("spec") or {}).get("taints") or []
    )


def _constraints(spec: dict[str, Any]) -> Constraints:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return Constraints(
        selector=dict(spec.get("nodeSelector") or {}),
        terms=tuple(_term(term) for term in required.get("nodeSelectorTerms") or []),
        tolerations=tuple(
            Toleration(
                str(t.get("key") or ""),
                str(t.get("operator") or "Equal"),
                str(t.get("value") or ""),
                str(t.get("effect") or ""),
            )
            for t in spec.get("tolerations") or []
        ),
    )


def _term(term: dict[str, Any]) -> tuple[Expression, ...]:
    found = []
    for kind, on_field in (("matchExpressions", False), ("matchFields", True)):
        for item in term.get(kind) or []:
            values = tuple(str(value) for value in item.get("values") or [])
            found.append(Expression(str(item.get("key")), str(item.get("operator")), values, on_field))
    return tuple(found)


def lift_patch(document: dict[str, Any], hostname: str) -> list[dict[str, Any]]:
    """Return the JSON patch that lifts our gate and, with a hostname, pins the pod: one step, or none at all.

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
    path = f"/spec/schedulingGates/{index}"
    patch.append({"op": "test", "path": f"{path}/name", "value": GATE})
    patch.append({"op": "remove", "path": path})
    return patch
