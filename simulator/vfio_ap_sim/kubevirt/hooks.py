"""virt-launcher's side of the hook protocol: find a pod's sidecars, ask what they want, call them.

After pkg/hooks/manager.go of v1.8.4, its oddities included: sockets are known by their file name alone, so two
sidecars whose sockets have the same name count as one; and callbacks run in the order of the sidecars' folders,
whatever their priorities.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from vfio_ap_sim.kubevirt import hookwire as wire
from vfio_ap_sim.kubevirt.api import Document

POLL = 0.3
"""Seconds between two looks for sockets (collectSideCarSockets)."""
CALL = 60.0
"""Seconds that a callback may take."""


class HookError(Exception):
    """A sidecar did not come up, or refused; the text is what virt-launcher says."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One sidecar's socket and what it subscribed to."""

    socket: Path
    version: str
    points: frozenset[str]


class HookManager:
    """The sidecars of one pod; ``folder`` stands for ``/var/run/kubevirt-hooks`` in the compute container."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sidecars: list[Sidecar] = []

    async def collect(self, count: int, limit: float) -> None:
        """Wait until ``count`` sidecars answer. Raises HookError after ``limit`` seconds, or for one that errs."""
        found: dict[str, Sidecar] = {}
        try:
            async with asyncio.timeout(limit):
                while len(found) < count:
                    for socket in self._sockets():
                        if socket.name not in found and (sidecar := await _info(socket)) is not None:
                            found[socket.name] = sidecar
                    if len(found) < count:
                        await asyncio.sleep(POLL)
        except TimeoutError:
            raise HookError("Failed to collect all expected sidecar hook sockets within given timeout") from None
        self._sidecars = list(found.values())

    async def on_define_domain(self, xml: str, vmi: Document) -> str:
        """Pass the domain's XML through every sidecar that asked for it. Raises HookError."""
        document = json.dumps(vmi).encode()
        for sidecar in self._subscribed(wire.ON_DEFINE_DOMAIN):
            params = wire.OnDefineDomainParams(domainXML=xml.encode(), vmi=document)
            answer = await _call(sidecar, wire.ON_DEFINE_DOMAIN, params, wire.OnDefineDomainResult)
            xml = answer.domainXML.decode()
        return xml

    async def shutdown(self) -> None:
        """Tell the sidecars that asked for it that the guest has ended; older versions cannot be told.

        Raises HookError.
        """
        for sidecar in self._subscribed(wire.SHUTDOWN):
            if sidecar.version == "v1alpha3":
                await _call(sidecar, wire.SHUTDOWN, wire.ShutdownParams(), wire.ShutdownResult)

    def _subscribed(self, point: str) -> list[Sidecar]:
        return [sidecar for sidecar in self._sidecars if point in sidecar.points]

    def _sockets(self) -> list[Path]:
        """Return the sockets, one folder a sidecar (services/template.go:sidecarVolumeMount)."""
        return sorted(path for path in self._folder.glob("*/*") if not path.is_dir())


@asynccontextmanager
async def _channel(socket: Path) -> AsyncIterator[Channel]:
    """Connect to a socket whose path may be longer than the kernel takes: by way of its open folder."""
    folder = os.open(socket.parent, os.O_PATH)
    channel = Channel(path=f"/proc/self/fd/{folder}/{socket.name}")
    try:
        yield channel
    finally:
        channel.close()
        os.close(folder)


async def _info(socket: Path) -> Sidecar | None:
    """Ask a sidecar what it is; None while nobody answers at its socket."""
    try:
        async with _channel(socket) as channel:
            ask = UnaryUnaryMethod(channel, wire.INFO_PATH, wire.InfoParams, wire.InfoResult)
            info = await ask(wire.InfoParams(), timeout=1)
    except OSError:
        return None
    except (GRPCError, StreamTerminatedError, TimeoutError) as error:
        raise HookError(_said(error)) from error
    version = next((known for known in wire.VERSIONS if known in info.versions), None)
    if version is None:
        exposed, supported = " ".join(info.versions), " ".join(wire.VERSIONS)
        raise HookError(
            "Hook sidecar does not expose a supported version. "
            f"Exposed versions: [{exposed}], supported versions: [{supported}]"
        )
    return Sidecar(socket, version, frozenset(point.name for point in info.hookPoints))


async def _call(sidecar: Sidecar, method: str, params: Any, reply: Any) -> Any:  # noqa: ANN401 - protobuf has no types here
    path = wire.callback_path(sidecar.version, method)
    try:
        async with _channel(sidecar.socket) as channel:
            return await UnaryUnaryMethod(channel, path, type(params), reply)(params, timeout=CALL)
    except (GRPCError, StreamTerminatedError, TimeoutError, OSError) as error:
        raise HookError(_said(error)) from error


def _said(error: Exception) -> str:
    """Return an error as gRPC for Go prints it."""
    if isinstance(error, GRPCError):
        status, text = error.status, error.message or ""
    else:
        status, text = Status.UNAVAILABLE, str(error)
    code = "".join(word.title() for word in status.name.split("_"))
    return f"rpc error: code = {code} desc = {text}"
