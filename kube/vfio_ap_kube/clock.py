"""The time as the API writes it."""

from __future__ import annotations

import datetime


def utc_now(precision: str = "seconds") -> str:
    """Return the time in RFC 3339, to ``seconds`` or ``microseconds``."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=precision).replace("+00:00", "Z")
