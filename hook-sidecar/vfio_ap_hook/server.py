"""Serve gRPC connections from one thread, by ``selectors``.

A call takes milliseconds, so one at a time will do; a client that sends slowly or does not read holds up nobody,
for the readiness probe comes by this way too. While a client leaves our answers unread, no more is read from it.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vfio_ap_hook.connection import Call, GrpcConnection

MAX_CLIENTS: Final = 8
"""Connections kept; for one more, the one that was silent longest goes."""
LAST_WORDS: Final = 1.0
"""Seconds that clients get at the end to take the answers that are due to them."""
_CHUNK: Final = 64 << 10

log = logging.getLogger(__name__)


class _Client:
    """A connected socket, and what is on its way to it."""

    def __init__(self, connected: socket.socket, call: Call) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.heard = time.monotonic()
        self.connection = GrpcConnection(call)
        self._unsent = bytearray()

    @property
    def wants(self) -> int:
        """The selectors' events that this client waits for; 0 when it is done with."""
        if self._unsent:
            return selectors.EVENT_WRITE
        return selectors.EVENT_READ if self.connection.open else 0

    def read(self) -> None:
        """Take in what is there. Raises OSError."""
        self.heard = time.monotonic()
        self.connection.receive(self.socket.recv(_CHUNK))

    def write(self) -> None:
        """Send what the socket takes. Raises OSError."""
        self._unsent += self.connection.to_send()
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            return


class Server:
    """Answers connections to ``listener`` until it is told to stop."""

    def __init__(self, listener: socket.socket, call: Call) -> None:
        self._listener = listener
        self._call = call
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()

    def run(self, stopped: socket.socket, over: Callable[[], bool]) -> None:
        """Serve until ``stopped`` is readable or ``over`` says so after an answer."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(stopped, selectors.EVENT_READ)
        while not over():
            ready = [(key.fileobj, events) for key, events in self._selector.select()]
            if any(source is stopped for source, _ in ready):
                break
            for source, events in ready:
                if source is self._listener:
                    self._accept()
                elif isinstance(source, socket.socket) and source in self._clients:
                    self._serve(self._clients[source], events)
        self._selector.unregister(stopped)
        self._selector.unregister(self._listener)

    def close(self) -> None:
        """Send what is due, for a while, and hang up."""
        for client in list(self._clients.values()):
            client.connection.finish()
            self._serve(client, 0)
        end = time.monotonic() + LAST_WORDS
        while self._clients and (left := end - time.monotonic()) > 0:
            for key, events in self._selector.select(left):
                if isinstance(key.fileobj, socket.socket):
                    self._serve(self._clients[key.fileobj], events)
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        if len(self._clients) == MAX_CLIENTS:
            self._drop(min(self._clients.values(), key=lambda client: client.heard))
        client = self._clients[connected] = _Client(connected, self._call)
        self._selector.register(connected, selectors.EVENT_READ)
        self._serve(client, 0)

    def _serve(self, client: _Client, events: int) -> None:
        """Read and write what can be; whatever a client does ends at most its own connection."""
        try:
            if events & selectors.EVENT_READ:
                client.read()
            client.write()
        except OSError:
            self._drop(client)
        except Exception:
            log.exception("a connection failed")
            self._drop(client)
        else:
            if client.wants:
                self._selector.modify(client.socket, client.wants)
            else:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.socket]
        self._selector.unregister(client.socket)
        client.socket.close()


@contextmanager
def stop_signals() -> Iterator[socket.socket]:
    """Give a socket that becomes readable at SIGTERM or SIGINT; neither ends the process any more."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno())
        handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield reader
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
