"""Asks a server over HTTPS whether it is ready, without binding to an event loop or a client library."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from .pki import Pair

TIMEOUT = 2.0
"""Seconds that one question may take."""


def https_ok(port: int, path: str, ca: Path, client: Pair | None = None) -> Callable[[], Awaitable[str]]:
    """Return a probe of ``https://127.0.0.1:port/path``: empty when it answers 200, else what it said.

    Without ``client`` it asks as anybody, as the kubelet does.
    """
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(str(client.cert), str(client.key))

    def ask() -> str:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return f"{path}: {error}"
        finally:
            connection.close()
        return "" if answer.status == 200 else f"{path}: {answer.status} {body.strip()[-400:]}"

    async def probe() -> str:
        return await asyncio.to_thread(ask)

    return probe
