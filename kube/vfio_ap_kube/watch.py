"""A collection as it changes: list, then watch, for ever, through restarts of the API server.

The consumer sees each object's newest state, a deletion for each object that went (also those that went while
the watch was down), and a mark once the first list is complete. It never sees an exception of the network.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from vfio_ap_kube.client import ApiError, Client, Document, Resource

_LOG = logging.getLogger(__name__)
_SILENCE = 80.0
"""Seconds without a line before a watch counts as dead; bookmarks come once a minute."""
_RETRY = (0.2, 15.0)
"""First and longest wait in seconds between attempts."""


@dataclass(frozen=True, slots=True)
class Change:
    """``object`` is there in this state, or was this when it went; ``synced`` marks a complete list instead."""

    object: Document = field(default_factory=dict)
    deleted: bool = False
    synced: bool = False


async def follow(client: Client, resource: Resource, **selectors: str) -> AsyncGenerator[Change, None]:
    """Yield the changes of a collection; ``selectors`` are labelSelector and fieldSelector."""
    known: dict[str, Document] = {}
    wait = _RETRY[0]
    while True:
        try:
            listing = await client.listing(resource, **selectors)
            seen = {_uid(item): item for item in listing.get("items") or []}
            for uid in [uid for uid in known if uid not in seen]:
                yield Change(known.pop(uid), deleted=True)
            for uid, item in seen.items():
                if _version(known.get(uid)) != _version(item):
                    known[uid] = _shell(item)
                    yield Change(item)
            yield Change(synced=True)
            wait = _RETRY[0]
            version = _version(listing)
            while True:
                before = version
                async for change, newest in _watch(client, resource, before, selectors):
                    version = newest
                    if change is None:
                        continue
                    if change.deleted:
                        known.pop(_uid(change.object), None)
                    else:
                        known[_uid(change.object)] = _shell(change.object)
                    yield change
                if version == before:  # closed at once: do not spin against whoever closes
                    await asyncio.sleep(_RETRY[0])
        except ApiError as error:
            if error.status != 410:  # Gone: our version is too old, list again at once
                _LOG.warning("watching %s: %s; trying again in %.1f s", resource.plural, error, wait)
                await asyncio.sleep(wait * random.uniform(0.7, 1.3))  # noqa: S311 - spreads load, no secret
                wait = min(wait * 2, _RETRY[1])


async def _watch(
    client: Client, resource: Resource, version: str, selectors: dict[str, str]
) -> AsyncIterator[tuple[Change | None, str]]:
    query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, **selectors}
    async for line in client.lines(resource.path(), query, silence=_SILENCE):
        event = json.loads(line)
        kind, item = event.get("type"), event.get("object", {})
        if kind == "ERROR":
            raise ApiError(int(item.get("code", 0)), str(item.get("reason", "")), str(item.get("message", "")))
        newer = _version(item)
        if kind == "BOOKMARK":
            yield None, newer
        else:
            yield Change(item, deleted=kind == "DELETED"), newer


def _version(item: Document | None) -> str:
    return str(item["metadata"]["resourceVersion"]) if item else ""


def _uid(item: Document) -> str:
    return str(item["metadata"]["uid"])


def _shell(item: Document) -> Document:
    """Return what is needed to report the object's deletion later, not the whole of it."""
    metadata = item["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata}
    return {"metadata": kept}
