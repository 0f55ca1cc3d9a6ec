"""Time as the API writes it, and the time that the API server has: clocks of a cluster differ."""

from __future__ import annotations

import datetime

from vfio_ap_kube.client import Client, Resource

_REVIEWS = Resource("authentication.k8s.io/v1", "selfsubjectreviews")


def utc_now(precision: str = "seconds") -> str:
    """Return the time in RFC 3339, to ``seconds`` or ``microseconds``."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def time_of(text: object) -> datetime.datetime | None:
    """Return the time of an RFC 3339 text, None for anything else."""
    if isinstance(text, datetime.datetime):  # YAML reads a time without quotes as one
        return text if text.tzinfo else text.replace(tzinfo=datetime.UTC)
    try:
        found = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


async def api_time(client: Client) -> datetime.datetime | None:
    """Return the API server's time: that of an object that is made and never stored. Raises ApiError."""
    review = {"apiVersion": _REVIEWS.api_version, "kind": "SelfSubjectReview"}
    answer = await client.create(_REVIEWS, review)
    return time_of((answer.get("metadata") or {}).get("creationTimestamp"))
