"""The kopf operator: start-up in order, the watch on APMatrix, clean shutdown, honest health.

Handlers only hand documents to the Fleet. Nothing is decided before this replica leads and every collection was
listed whole: half a picture looks like a cluster in which most things were deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp
import kopf

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import ApiError, Client, Document
from vfio_ap_kube.credentials import Credentials, load
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.lease import Leadership
from vfio_ap_operator.admission.migrations import migration_refusal
from vfio_ap_operator.admission.server import serving
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.guard import GuardKeeper
from vfio_ap_operator.reconcile import MATRICES, Reconciler
from vfio_ap_operator.settings import Settings
from vfio_ap_operator.watches import Watches, resync_matrices

_LOG = logging.getLogger(__name__)
_PREFIX = "operator.ap.s390x.io"


class App:
    """One running operator; kopf calls its methods."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fleet = Fleet()
        self._tasks = contextlib.AsyncExitStack()
        self._reconciler: Reconciler | None = None
        self._started = time.monotonic()
        self.phase = "starting"
        """What the operator is waiting for, or ``running``."""

    def registry(self) -> kopf.OperatorRegistry:
        """Return kopf's registry with our handlers."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(self.startup)
        kopf.on.cleanup(registry=registry)(self.cleanup)
        kopf.on.login(registry=registry)(self.login)
        kopf.on.probe(registry=registry, id="operator")(self.probe)
        kopf.on.event(MATRICES.api_version, MATRICES.plural, registry=registry)(self.matrix_event)
        return registry

    async def startup(self, settings: kopf.OperatorSettings, **_: object) -> None:
        """Bound kopf's traces on objects, then lead, then know everything, then begin."""
        settings.persistence.finalizer = f"{_PREFIX}/kopf"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_PREFIX)
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.networking.request_timeout = 30
        credentials = load()
        client = await self._tasks.enter_async_context(Client(credentials, manager="vfio-ap-operator"))
        events = EventPoster(client, "vfio-ap-operator", self._settings.identity)
        if webhook := self._settings.webhook:
            await self._tasks.enter_async_context(
                serving(client, webhook, self._settings.health_host, self._judge)
            )
        self.phase = "waiting to lead"
        leadership = Leadership(client, self._settings.namespace, "vfio-ap-operator", self._settings.identity)
        await leadership.acquire()
        self._tasks.push_async_callback(leadership.release)
        _LOG.info("leading as %s", self._settings.identity)
        self._spawn(leadership.keep(self._lost), "leadership")
        self.phase = "listing"
        silence = self._settings.agent_silence
        guards = GuardKeeper(self._fleet, client, events, self._settings.kubevirt)
        watches = Watches(self._fleet, client, events, guards, self._settings.namespace, silence)
        self._spawn(watches.run(), "watches")
        await watches.complete()
        await self._first_listing(client)
        self._reconciler = Reconciler(self._fleet, client, events)
        self._spawn(self._reconciler.run(), "reconciler")
        self._spawn(self._resync(client), "resync")
        self.phase = "running"

    def _judge(self, migration: Document) -> Refusal | None:
        """Say why a migration is refused at once; a replica that does not lead knows nothing and lets it pass."""
        return migration_refusal(self._fleet, migration) if self.phase == "running" else None

    async def cleanup(self, **_: object) -> None:
        """Stop the tasks, release the lead, close the connections."""
        self.phase = "stopping"
        await self._tasks.aclose()

    async def login(self, **_: object) -> kopf.AiohttpSession:
        """Give kopf a session with a bounded number of connections (anchors.md 1.5)."""
        credentials = load()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8, ssl=credentials.tls or True),
            middlewares=(_authorizing(credentials),),
        )
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    async def probe(self, **_: object) -> dict[str, Any]:
        """Say what the operator does, for the health endpoint."""
        return {
            "phase": self.phase,
            "passes": self._reconciler.passes if self._reconciler else 0,
            "matrices": len(self._fleet.matrices),
            "nodes": len(self._fleet.nodes),
            "seconds": round(time.monotonic() - self._started),
        }

    async def matrix_event(self, type: str | None, body: kopf.Body, **_: object) -> None:
        """Hand an APMatrix to the Fleet."""
        if type == "DELETED":
            self._fleet.forget_matrix(body["metadata"]["name"])
        else:
            self._fleet.observe_matrix(dict(body))

    async def _first_listing(self, client: Client) -> None:
        while True:
            try:
                await resync_matrices(self._fleet, client)
            except ApiError as error:
                _LOG.warning("cannot list APMatrix objects: %s; trying again", error)
                await asyncio.sleep(1)
            else:
                return

    async def _resync(self, client: Client) -> None:
        while True:
            await asyncio.sleep(self._settings.resync)
            try:
                await resync_matrices(self._fleet, client)
            except ApiError as error:
                _LOG.warning("cannot compare with the API server: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)

        async def stop() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

        self._tasks.push_async_callback(stop)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """End the whole operator when a part of it ends on its own: half an operator is worse than none."""
        if task.cancelled() or self.phase == "stopping":
            return
        if error := task.exception():
            _LOG.critical("%s failed", task.get_name(), exc_info=error)
        self.stop.set()

    def _lost(self) -> None:
        _LOG.critical("the Lease was lost, to another replica or to an outage; starting anew")

    stop: asyncio.Event
    """Set to end the operator; the command line makes it in its event loop."""


def _authorizing(credentials: Credentials) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that adds the token as it is at the time of each request."""

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(credentials.headers())
        return await handler(request)

    return middleware
