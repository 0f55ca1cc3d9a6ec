"""gRPC over unix sockets, with an orderly end.

grpclib's server leaves connections open when it closes, and asyncio leaves the socket file behind: a peer would go
on talking to a server that is gone. This module closes both. It knows no service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpclib.client import Channel
from grpclib.server import Handler, Server

from vfio_ap_kube.kubelet import SOCKET_PATH_MAX

if TYPE_CHECKING:
    from grpclib._typing import IServable
    from grpclib.protocol import H2Protocol

CLOSE_GRACE = 2.0
"""Seconds that handlers and connections each get to end once they were told to."""


class _Server(Server):
    """A grpclib server that remembers its connections."""

    def __init__(self, handlers: Collection[IServable]) -> None:
        super().__init__(handlers)
        self.protocols: list[H2Protocol] = []

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self.protocols = [known for known in self.protocols if not _is_lost(known)]
        self.protocols.append(protocol)
        return protocol


def _is_lost(protocol: H2Protocol) -> bool:
    return hasattr(protocol, "connection") and protocol.connection.is_closing()


class UnixServer:
    """Serve gRPC handlers on one socket file."""

    def __init__(self, path: Path, handlers: Collection[IServable]) -> None:
        if len(str(path).encode()) > SOCKET_PATH_MAX:
            raise ValueError(f"socket path is longer than {SOCKET_PATH_MAX} bytes: {path}")
        self.path = path
        self._handlers = handlers
        self._server: _Server | None = None
        self._inode = 0

    @property
    def reachable(self) -> bool:
        """Whether the socket file is there and is the one this server listens on."""
        try:
            return self._server is not None and self.path.lstat().st_ino == self._inode
        except FileNotFoundError:
            return False

    async def start(self) -> None:
        """Listen, in place of a socket that someone left behind.

        Raises:
            OSError: the socket cannot be made.
        """
        server = _Server(self._handlers)
        self.path.unlink(missing_ok=True)
        await server.start(path=str(self.path))
        self._server, self._inode = server, self.path.lstat().st_ino

    async def close(self) -> None:
        """Stop listening, cancel what runs, hang up and remove the socket if it is still ours. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        with suppress(FileNotFoundError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE):
                for protocol in server.protocols:
                    await cast(Handler, protocol.handler).wait_closed()
        for protocol in server.protocols:
            if hasattr(protocol, "processor"):
                protocol.processor.close("server closed")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE):
                await server.wait_closed()


@asynccontextmanager
async def unix_channel(path: Path) -> AsyncIterator[Channel]:
    """Open a channel to the server at ``path``; the first call connects, and raises OSError if it cannot."""
    channel = Channel(path=str(path))
    try:
        yield channel
    finally:
        channel.close()
