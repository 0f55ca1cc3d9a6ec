"""Read from a VirtualMachineInstance which mediated device it gets.

Admission writes the UUID into the annotation when the VMI is made and keeps it from being changed; nothing else of
the VMI is looked at.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from vfio_ap_hook.errors import Code, RefusedError

ANNOTATION: Final = "ap.s390x.io/uuid"
_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as APMatrix has it and the kernel names mediated devices: in lower case."""
    return _UUID.fullmatch(text) is not None


def uuid_of(vmi: bytes) -> str:
    """Return the UUID that a VMI, as JSON, is annotated with. Raises RefusedError."""
    try:
        document: Any = json.loads(vmi.decode())
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the VMI is not JSON: {error}", Code.INVALID_ARGUMENT) from None
    for name in ("metadata", "annotations"):
        document = document.get(name) if isinstance(document, dict) else None
    uuid = document.get(ANNOTATION) if isinstance(document, dict) else None
    if uuid is None:
        raise RefusedError(f"the VMI has no annotation {ANNOTATION}; admission sets it when the VMI is created")
    if not isinstance(uuid, str) or not is_uuid(uuid):
        raise RefusedError(f"the VMI's annotation {ANNOTATION} is not a UUID in lower case: {str(uuid)[:80]!a}")
    return uuid
