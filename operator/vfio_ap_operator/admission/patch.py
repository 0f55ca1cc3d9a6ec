"""JSON patches (RFC 6902), as admission writes them."""

from __future__ import annotations

from vfio_ap_kube.client import Document

Patch = list[Document]


def add(value: object, *path: str) -> Document:
    """Return the operation that adds or replaces what is at the path; ``-`` is the end of a list."""
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    return {"op": "add", "path": pointer, "value": value}
