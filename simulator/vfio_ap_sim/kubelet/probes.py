"""Probes: httpGet, tcpSocket and exec, and what a row of their results means. Decides nothing about restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

Document = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is probed."""

    address: str
    env: Mapping[str, str]
    cwd: Path
    ports: Mapping[str, int]
    """Named ports."""

    def port(self, port: int | str) -> int:
        """Return the number of a port that is given by number or by name."""
        return self.ports[port] if isinstance(port, str) else port


async def passes(probe: Document, target: Target) -> bool:
    """Run a probe once, within its ``timeoutSeconds``."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            if http := probe.get("httpGet"):
                return await _http(http, target)
            if tcp := probe.get("tcpSocket"):
                _, writer = await asyncio.open_connection(
                    tcp.get("host") or target.address, target.port(tcp["port"])
                )
                writer.close()
                return True
            if command := probe.get("exec"):
                return await _exec(command["command"], target)
    except (TimeoutError, OSError, KeyError, aiohttp.ClientError) as error:
        log.debug("Probe failed: %r", error)
        return False
    log.warning("The played kubelet does not know this probe: %s", probe)
    return False


async def follow(probe: Document, target: Target, report: Callable[[bool], None], *, once: bool = False) -> None:
    """Probe until cancelled and report each verdict that its thresholds make.

    With ``once`` the first good verdict ends it (startup probes).
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    row, last = 0, None
    while True:
        good = await passes(probe, target)
        row = row + 1 if good == last else 1
        last = good
        if row == probe.get("successThreshold" if good else "failureThreshold", 1 if good else 3):
            report(good)
            if good and once:
                return
        await asyncio.sleep(probe.get("periodSeconds", 10))


async def _http(http: Document, target: Target) -> bool:
    scheme = http.get("scheme", "HTTP").lower()
    host = http.get("host") or target.address
    url = f"{scheme}://{host}:{target.port(http['port'])}{http.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in http.get("httpHeaders", ())}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
    ):
        return 200 <= answer.status < 400


async def _exec(command: list[str], target: Target) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=target.env,
        cwd=target.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
