"""Conditions: a new value keeps its transition time while its status stays. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Conditions = list[dict[str, Any]]


def merged(old: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]], now: str) -> Conditions:
    """Return the new conditions with ``lastTransitionTime`` kept where the status did not change.

    ``now`` is an RFC 3339 time. Types that ``new`` does not name are dropped.
    """
    before = {condition["type"]: condition for condition in old}
    result = []
    for condition in new:
        known = before.get(condition["type"])
        same = known is not None and known.get("status") == condition["status"]
        time = known["lastTransitionTime"] if same and known else now
        result.append({**condition, "lastTransitionTime": time})
    return result
