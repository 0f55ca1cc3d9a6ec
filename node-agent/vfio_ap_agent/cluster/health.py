"""What the agent says of itself over HTTP.

``/healthz`` fails when restarting the process could help: its loop stands still, or a task of it has ended.
``/readyz`` fails when what it reports may be out of date, whatever the reason. Both show the ages they go by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_LOG = logging.getLogger(__name__)
_PATIENCE = 5.0
_LONGEST_LINE = 8192
"""Seconds and bytes that a client gets to say what it wants."""


@dataclass(slots=True)
class Health:
    """Marks that the loop leaves."""

    period: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    turned: float = field(init=False)
    """When the loop last came round, successfully or not."""
    read_back: float | None = None
    """When the host was last read whole."""
    watching: bool = False
    """Whether the APNode has been seen and its watch is running."""

    def __post_init__(self) -> None:
        """Count from now."""
        self.started = self.turned = self.clock()

    def turn(self, *, read: bool) -> None:
        """Mark the end of a pass."""
        self.turned = self.clock()
        if read:
            self.read_back = self.turned

    @property
    def alive(self) -> bool:
        """Whether the loop still turns; a pass may wait for long mask edits."""
        return self.clock() - self.turned < 10 * self.period + 600

    @property
    def current(self) -> bool:
        """Whether the last reading is recent and the watch stands."""
        recent = self.read_back is not None and self.clock() - self.read_back < 3 * self.period
        return recent and self.watching

    def document(self) -> dict[str, object]:
        """Return the marks as ages in seconds."""
        now = self.clock()
        age = None if self.read_back is None else round(now - self.read_back, 1)
        return {
            "lastReadBackSeconds": age,
            "lastPassSeconds": round(now - self.turned, 1),
            "watching": self.watching,
        }


async def serve(health: Health, address: str, port: int) -> asyncio.Server | None:
    """Serve until the server is closed; a port that is taken is logged and does not stop the agent.

    A few lines of HTTP, because aiohttp's server alone would be two of the agent's 60 MiB.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                writer.write(_response(health, request))
                await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(answer, address or None, port, limit=_LONGEST_LINE)
    except OSError as error:
        _LOG.error("cannot serve /healthz: %s", error)
        return None


def _response(health: Health, request: bytes) -> bytes:
    """Return the answer to a request line such as ``GET /healthz HTTP/1.1``."""
    method, _, rest = request.decode("latin-1").partition(" ")
    path = rest.split(" ")[0].partition("?")[0]
    good = {"/healthz": health.alive, "/readyz": health.current}.get(path)
    if method not in ("GET", "HEAD"):
        status = "405 Method Not Allowed"
    elif good is None:
        status = "404 Not Found"
    else:
        status = "200 OK" if good else "503 Service Unavailable"
    body = b"" if good is None else json.dumps(health.document()).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + (b"" if method == "HEAD" else body)
