"""The view of a launcher pod that asks for a matrix."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.scheduling import Constraints, Expression, Toleration
from vfio_ap_kube.snapshot.names import GATE, HOLD, MATRIX, MIGRATION_LABEL, PIN

_OWNER_LABEL = "kubevirt.io/created-by"
_NOT_ASKED = ("compute", "istio-proxy")
"""Containers whose readiness KubeVirt does not ask for (pkg/controller: IsPodReady)."""
_NAME_LABEL = "vm.kubevirt.io/name"


def pod_view(document: dict[str, Any]) -> PodView | None:
    """Return the view of a pod that asks for a matrix, None for one that has ended."""
    metadata, spec = document["metadata"], document.get("spec") or {}
    status, labels = document.get("status") or {}, metadata.get("labels") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    gates = [gate.get("name") for gate in spec.get("schedulingGates") or []]
    conditions = status.get("conditions") or []
    others = [c for c in status.get("containerStatuses") or [] if c.get("name") not in _NOT_ASKED]
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        matrix=labels.get(MATRIX, ""),
        owner=labels.get(_OWNER_LABEL) or metadata["uid"],
        vm=labels.get(_NAME_LABEL, ""),
        created=str(metadata.get("creationTimestamp", "")),
        node=str(spec.get("nodeName") or ""),
        gated=GATE in gates,
        held=(metadata.get("annotations") or {}).get(HOLD) == "held",
        ready=bool(others) and all(c.get("ready") for c in others),
        migration=labels.get(MIGRATION_LABEL, ""),
        pinned=PIN in (metadata.get("annotations") or {}),
        unschedulable=any(
            c.get("type") == "PodScheduled" and c.get("reason") == "Unschedulable" for c in conditions
        ),
        constraints=_constraints(spec),
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
