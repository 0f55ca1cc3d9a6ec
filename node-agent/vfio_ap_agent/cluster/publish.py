"""Publishing APNode.status: by server-side apply, when it changed, and later when the API server is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from vfio_ap_agent.samples import utc_now
from vfio_ap_api import apnode
from vfio_ap_kube import conditions
from vfio_ap_kube.client import ApiError, Client, Resource

_LOG = logging.getLogger(__name__)
APNODES = Resource(apnode.KIND.api_version, apnode.KIND.plural)
_RETRY = (1.0, 30.0)


class Publisher:
    """Writes the newest status and forgets older ones that were never written."""

    def __init__(self, client: Client, name: str, missing: Callable[[], None]) -> None:
        self._client = client
        self._name = name
        self._missing = missing
        self._wanted: dict[str, Any] | None = None
        self._published: dict[str, Any] | None = None
        self._news = asyncio.Event()

    def learn(self, status: dict[str, Any]) -> None:
        """Take what the API server has as published, so that a restart writes nothing that is there already."""
        if self._published is None:
            self._published = status

    def forget(self) -> None:
        """The object went; what was published went with it."""
        self._published = None
        self._news.set()

    def offer(self, status: dict[str, Any]) -> None:
        """Publish this unless it is published; conditions get their transition times here."""
        before = (self._wanted or self._published or {}).get("conditions") or []
        merged = conditions.merged(before, status.get("conditions", []), utc_now())
        status = {**status, "conditions": merged}
        if status != (self._wanted or self._published):
            self._wanted = status
            self._news.set()

    async def run(self) -> None:
        """Write whatever is offered until cancelled."""
        wait = _RETRY[0]
        while True:
            await self._news.wait()
            self._news.clear()
            status = self._wanted or self._published
            if status is None:
                continue
            try:
                await self._write(status)
            except ApiError as error:
                if error.not_found:
                    self._missing()
                _LOG.warning("cannot publish the status: %s; trying again in %.0f s", error, wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY[1])
                self._news.set()
                continue
            wait = _RETRY[0]
            self._published = status
            if self._wanted == status:
                self._wanted = None

    async def _write(self, status: dict[str, Any]) -> None:
        document = {
            "apiVersion": apnode.KIND.api_version,
            "kind": apnode.KIND.name,
            "metadata": {"name": self._name},
            "status": status,
        }
        await self._client.apply(APNODES, document, subresource="status")
