"""The webhook's HTTPS server: AdmissionReview in, AdmissionReview with a JSON patch out.

Every replica serves, also one that does not lead. The certificate comes from files and is read again when they
change. What cannot be answered is an error, and the API server refuses the object: failurePolicy is Fail.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import NAMESPACES, ApiError, Client, Document
from vfio_ap_operator.admission.patch import Patch
from vfio_ap_operator.admission.pods import pod_patch
from vfio_ap_operator.admission.postcopy import postcopy_patch
from vfio_ap_operator.admission.settings import WebhookSettings
from vfio_ap_operator.admission.vmis import vmi_patch

_LOG = logging.getLogger(__name__)
_LARGEST = 3 * 1024 * 1024
"""Bytes of a review: an object of etcd's largest size, and what is around it."""
_RELOAD = 20.0
"""Seconds between looks at the certificate's files, which kubelet replaces within a minute or two."""

Answer = Callable[[Document], Awaitable[Patch]]
Judge = Callable[[Document], Refusal | None]
"""Returns why a migration that is asked for is refused at once."""


@asynccontextmanager
async def serving(client: Client, settings: WebhookSettings, host: str, judge: Judge) -> AsyncIterator[None]:
    """Serve ``/vmis``, ``/postcopy``, ``/pods`` and ``/migrations`` on ``host``.

    Raises OSError: no certificate, or no such port.
    """

    async def vmis(request: Document) -> Patch:
        namespace = await client.get(NAMESPACES, request["namespace"])
        labels = namespace["metadata"].get("labels") or {}
        return vmi_patch(request["object"], labels, settings.sidecar, settings.strategy)

    async def pods(request: Document) -> Patch:
        return pod_patch(request["object"], settings.sidecar)

    async def postcopy(request: Document) -> Patch:
        return postcopy_patch(request["object"])

    application = web.Application(client_max_size=_LARGEST)
    application.router.add_post("/vmis", _handler(vmis))
    application.router.add_post("/postcopy", _handler(postcopy))
    application.router.add_post("/pods", _handler(pods))
    application.router.add_post("/migrations", _judging(judge))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, settings)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    reloading = asyncio.create_task(_reload(context, settings), name="webhook certificate")
    try:
        await web.TCPSite(runner, host, settings.port, ssl_context=context).start()
        _LOG.info("admission webhook on port %s", settings.port)
        yield
    finally:
        reloading.cancel()
        await runner.cleanup()


def _judging(judge: Judge) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            asked: Document = (await request.json())["request"]
            refusal = judge(asked["object"])
            response: Document = {"uid": asked["uid"], "allowed": refusal is None}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"no AdmissionReview of a migration: {error!r}") from None
        if refusal is not None:
            response["status"] = {"code": 403, "reason": "Forbidden", "message": str(refusal)}
        return _review(response)

    return handle


def _review(response: Document) -> web.Response:
    return web.json_response(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    )


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            review: Any = await request.json()
            asked: Document = review["request"]
            patch = await answer(asked)
            uid = asked["uid"]
        except ApiError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot read the namespace: {error}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"no AdmissionReview of such an object: {error!r}") from None
        response: Document = {"uid": uid, "allowed": True}
        if patch:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return _review(response)

    return handle


def _load(context: ssl.SSLContext, settings: WebhookSettings) -> None:
    context.load_cert_chain(settings.certificate / "tls.crt", settings.certificate / "tls.key")


async def _reload(context: ssl.SSLContext, settings: WebhookSettings) -> None:
    """Take a new certificate for new connections, as soon as one is there and whole."""
    path = settings.certificate / "tls.crt"
    seen = path.read_bytes()
    while True:
        await asyncio.sleep(_RELOAD)
        try:
            if (now := path.read_bytes()) != seen:
                _load(context, settings)
                seen = now
                _LOG.info("admission webhook: new certificate")
        except OSError as error:
            _LOG.warning("admission webhook: cannot read the certificate: %s", error)
