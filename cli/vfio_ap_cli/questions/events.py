"""The recent Events about an object: ours, and everybody's warnings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vfio_ap_cli.questions.nodes import span
from vfio_ap_cli.reading.documents import Document
from vfio_ap_cli.snapshot import Snapshot
from vfio_ap_kube.clock import time_of

_MOST = 10


@dataclass(frozen=True, slots=True)
class EventRow:
    """One Event."""

    age: str
    type: str
    reason: str
    component: str
    object: str
    message: str
    count: int = 1


def recent(snapshot: Snapshot, about: Iterable[tuple[str, str, str]]) -> tuple[EventRow, ...]:
    """Return the newest Events about objects, given by kind, namespace and name; the newest last."""
    wanted = set(about)
    found = []
    for event in snapshot.documents.of("Event"):
        thing = event.get("involvedObject") or {}
        key = (str(thing.get("kind")), str(thing.get("namespace") or ""), str(thing.get("name")))
        component = str((event.get("source") or {}).get("component") or event.get("reportingComponent") or "")
        if key in wanted and (component.startswith("vfio-ap") or event.get("type") == "Warning"):
            # Within a second the API server's count of writes has the order.
            serial = int(event["metadata"].get("resourceVersion") or 0)
            found.append(((_stamp(event), serial), _row(snapshot, event, component)))
    found.sort(key=lambda item: item[0])
    return tuple(row for _, row in found[-_MOST:])


def _stamp(event: Document) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def _row(snapshot: Snapshot, event: Document, component: str) -> EventRow:
    when, now = time_of(_stamp(event)), snapshot.documents.now
    thing = event.get("involvedObject") or {}
    return EventRow(
        age=span((now - when).total_seconds()) if when and now else "-",
        type=str(event.get("type") or ""),
        reason=str(event.get("reason") or ""),
        component=component,
        object=f"{str(thing.get('kind')).lower()}/{thing.get('name')}",
        message=" ".join(str(event.get("message") or "").split()),
        count=int(event.get("count") or 1),
    )
