"""The view of a VirtualMachine, of which only what its template asks for matters."""

from __future__ import annotations

from typing import Any

from vfio_ap.fleet.templates import TemplateView
from vfio_ap_kube.snapshot.names import MATRIX


def template_view(document: dict[str, Any]) -> TemplateView:
    """Return the view of a VirtualMachine."""
    metadata, status = document["metadata"], document.get("status") or {}
    template = (document.get("spec") or {}).get("template") or {}
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return TemplateView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        matrix=str(annotations.get(MATRIX) or ""),
        running=status.get("printableStatus") == "Running" and "deletionTimestamp" not in metadata,
    )
