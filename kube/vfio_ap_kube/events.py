"""Events on objects, each said once: the same reason and message on the same object only counts up.

Events are a courtesy: failing to post one is logged and never stops work.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections import OrderedDict
from typing import Literal

from vfio_ap_kube.client import EVENTS, ApiError, Client, Document

_LOG = logging.getLogger(__name__)
_REMEMBERED = 4096
_QUIET = datetime.timedelta(minutes=10)
"""The same Event is not posted again within this time."""


def about(api_version: str, kind: str, name: str, uid: str, namespace: str = "") -> Document:
    """Return what an Event refers to, for who has the object's names and not the object."""
    metadata = {"name": name, "uid": uid, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


class EventPoster:
    """Posts Events as one component."""

    def __init__(self, client: Client, component: str, instance: str) -> None:
        self._client = client
        self._component = component
        self._instance = instance
        self._posted: OrderedDict[str, tuple[datetime.datetime, int]] = OrderedDict()

    async def post(
        self, about: Document, kind: Literal["Normal", "Warning"], reason: str, message: str, *, action: str = ""
    ) -> None:
        """Post an Event about an object (its apiVersion, kind and metadata are used)."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        now = datetime.datetime.now(datetime.UTC)
        identity = "/".join((metadata.get("uid", metadata["name"]), kind, reason, message))
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        last, count = self._posted.get(key, (now - 2 * _QUIET, 0))
        if now - last < _QUIET:
            return
        self._posted[key] = (now, count + 1)
        self._posted.move_to_end(key)
        while len(self._posted) > _REMEMBERED:
            self._posted.popitem(last=False)
        stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        event: Document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name'][:230]}.{key}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
                **({"uid": metadata["uid"]} if metadata.get("uid") else {}),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "action": action,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": count + 1,
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
        try:
            await self._client.apply(EVENTS.within(namespace), event)
        except ApiError as error:
            _LOG.warning("cannot post the Event %s on %s: %s", reason, metadata["name"], error)
