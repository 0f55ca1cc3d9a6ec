"""The view of an APMatrix document."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.fleet.views import MatrixView, Placement, Variant
from vfio_ap_api import apmatrix


def matrix_view(document: dict[str, Any]) -> MatrixView:
    """Return the view of an APMatrix document."""
    metadata, status = document["metadata"], document.get("status") or {}
    name, uuid = metadata["name"], str(status.get("uuid") or "")
    common: dict[str, Any] = {
        "name": name,
        "labels": dict(metadata.get("labels") or {}),
        "created": str(metadata.get("creationTimestamp", "")),
        "accepted": _accepted(status, int(metadata.get("generation", 0))),
        "deleting": "deletionTimestamp" in metadata,
    }
    try:
        spec = apmatrix.APMatrixSpec.model_validate(document.get("spec") or {})
        matrix = spec.matrix()
        variants = tuple(_variant(item, f"spec.variants[{n}]") for n, item in enumerate(spec.variants))
    except ValidationError as error:
        first = error.errors()[0]
        where = "spec." + ".".join(str(part) for part in first["loc"])
        refusal = Refusal("InvalidSpec", name, f"{where}: {first['msg']}", "correct the field")
        return MatrixView(uuid=uuid, invalid=refusal, **common)
    except RefusedError as error:
        inner = error.refusal
        refusal = Refusal(inner.reason, name, f"{inner.subject} {inner.message}", inner.remedy)
        return MatrixView(uuid=uuid, invalid=refusal, **common)
    return MatrixView(
        uuid=spec.uuid or uuid,
        matrix=matrix,
        placement=Placement(spec.placement),
        selector=dict(spec.node_selector),
        namespaces=frozenset(spec.allowed_namespaces),
        adopt=spec.adopt_existing,
        variants=variants,
        expected=dict(spec.expected_keys),
        **common,
    )


def _variant(item: apmatrix.Variant, field: str) -> Variant:
    return Variant(item.matrix(field), dict(item.node_selector), frozenset(item.machines))


def _accepted(status: dict[str, Any], generation: int) -> bool:
    return any(
        condition.get("type") == "Accepted"
        and condition.get("status") == "True"
        and condition.get("observedGeneration") == generation
        for condition in status.get("conditions") or []
    )
