"""What the agent says of itself over HTTP.

``/healthz`` fails when restarting the process could help: its loop stands still, or a task of it has ended.
``/readyz`` fails when what it reports may be out of date, whatever the reason. Both show the ages they go by.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

_LOG = logging.getLogger(__name__)


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


async def serve(health: Health, address: str, port: int) -> web.AppRunner | None:
    """Serve until the runner is cleaned up; a port that is taken is logged and does not stop the agent."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(health.document(), status=200 if health.alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        return web.json_response(health.document(), status=200 if health.current else 503)

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address or None, port).start()
    except OSError as error:
        _LOG.error("cannot serve /healthz: %s", error)
        await runner.cleanup()
        return None
    return runner
