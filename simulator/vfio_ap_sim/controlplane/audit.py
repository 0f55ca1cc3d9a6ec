"""kube-apiserver's own account of its requests: who asked for what, and when, to the microsecond.

Written on demand only. It counts what no client has to be trusted to count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

POLICY: Final = json.dumps(
    {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
        "rules": [{"level": "Metadata"}],
    }
)
"""Each request once, when it is over, without its body."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is over."""

    began: float
    """Seconds since the epoch, by the API server's clock, at which it was received."""
    ended: float
    """The same, at which it was answered."""
    user: str
    """Who asked, or as whom somebody else did."""
    verb: str
    """As in RBAC: get, list, watch, create, update, patch, delete."""
    resource: str
    """With its subresource, as in RBAC: ``pods``, ``apnodes/status``; empty for what is none."""
    namespace: str
    name: str
    """Empty when the API server chose it."""
    code: int
    """HTTP status."""


def flags(policy: Path, log: Path) -> list[str]:
    """Return kube-apiserver's flags for an account in ``log``; each line is there before the answer is."""
    return [f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=blocking-strict"]


def read(log: Path) -> Iterator[Request]:
    """Yield the requests of an account, in the order in which they ended."""
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # the last one may be in the making
                yield _request(json.loads(line))


def _request(event: dict[str, Any]) -> Request:
    about = event.get("objectRef") or {}
    resource = "/".join(part for part in (about.get("resource", ""), about.get("subresource", "")) if part)
    return Request(
        _seconds(event["requestReceivedTimestamp"]),
        _seconds(event["stageTimestamp"]),
        (event.get("impersonatedUser") or event["user"]).get("username", ""),
        event["verb"],
        resource,
        about.get("namespace", ""),
        about.get("name", ""),
        (event.get("responseStatus") or {}).get("code", 0),
    )


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
