"""One client's connection: gRPC's unary calls over HTTP/2, bytes in and bytes out, no sockets.

After the gRPC project's doc/PROTOCOL-HTTP2.md. Every limit is checked before the memory is taken: a client may
declare a message of any size, and only what fits is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from vfio_ap_hook.errors import Code, RefusedError

MAX_MESSAGE: Final = 4 << 20
"""Bytes of the largest request, and of all that one client has under way; what gRPC for Go allows by default."""
MAX_STREAMS: Final = 4
MAX_HEADERS: Final = 16 << 10
MAX_QUIET: Final = 64 << 10
"""Bytes that may come without an event, more than any frame we allow; h2 waits for 16 MiB if a frame says so."""
_PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""

Call: TypeAlias = Callable[[str, bytes], bytes]
"""From a method's path and a request message to the reply message; raises RefusedError."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Request:
    path: str
    body: bytearray = field(default_factory=bytearray)


class GrpcConnection:
    """Answers what comes over one connection by ``call(path, message)``, which may raise RefusedError."""

    def __init__(self, call: Call) -> None:
        self.open = True
        """False once the client has gone or broke the protocol: send what is left, then hang up."""
        self._call = call
        self._quiet = 0
        self._requests: dict[int, _Request] = {}
        self._replies: dict[int, bytes] = {}
        """What the client's flow control has not let through yet."""
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            },
        )
        self._h2.initiate_connection()

    def receive(self, data: bytes) -> None:
        """Take in what the client sent; empty when it has hung up."""
        if not data:
            self.open = False
            return
        try:
            events = self._h2.receive_data(data)
            self._quiet = 0 if events else self._quiet + len(data)
            if self._quiet > MAX_QUIET:
                raise ProtocolError("a frame without end")
            given_up = {event.stream_id for event in events if isinstance(event, StreamReset)}
            for event in events:
                if getattr(event, "stream_id", None) not in given_up or isinstance(event, StreamReset):
                    self._handle(event)
            self._send_replies()
        except ProtocolError as error:
            log.info("a client broke HTTP/2: %s", error)
            self.open = False

    def to_send(self) -> bytes:
        """Return what is to be sent now, and forget it."""
        return self._h2.data_to_send()

    def finish(self) -> None:
        """Tell the client that there will be no more answers."""
        if self.open:
            self._h2.close_connection()
            self.open = False

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                path = next((value for name, value in event.headers if name == b":path"), b"")
                self._requests[event.stream_id] = _Request(path.decode("ascii", "replace"))
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.stream_id in self._requests:
                    self._collect(event.stream_id, event.data)
            case StreamEnded():
                if event.stream_id in self._requests:
                    self._answer(event.stream_id)
            case StreamReset():
                self._requests.pop(event.stream_id, None)
                self._replies.pop(event.stream_id, None)
            case ConnectionTerminated():
                self.open = False

    def _collect(self, stream: int, data: bytes) -> None:
        """Keep a piece of a request, or end the request that would be too much."""
        under_way = sum(len(request.body) for request in self._requests.values())
        body = self._requests[stream].body
        start = bytes(body[:_PREFIX]) + data[: max(0, _PREFIX - len(body))]
        declared = int.from_bytes(start[1:], "big") if len(start) == _PREFIX else 0
        if max(declared, under_way + len(data) - _PREFIX) > MAX_MESSAGE:
            self._end(stream, Code.RESOURCE_EXHAUSTED, f"a request may have {MAX_MESSAGE} bytes")
            self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)
        else:
            body += data

    def _answer(self, stream: int) -> None:
        request = self._requests[stream]
        try:
            reply = self._call(request.path, _unframed(bytes(request.body)))
        except RefusedError as refusal:
            self._end(stream, refusal.code, str(refusal))
        except Exception:
            log.exception("%s failed", request.path)
            self._end(stream, Code.INTERNAL, "the hook sidecar failed; its log says why")
        else:
            del self._requests[stream]
            self._h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            self._replies[stream] = b"\0" + len(reply).to_bytes(_PREFIX - 1, "big") + reply

    def _end(self, stream: int, code: Code, sentence: str) -> None:
        """Answer with an error alone."""
        del self._requests[stream]
        headers = [(":status", "200"), ("content-type", "application/grpc")]
        headers += [("grpc-status", str(int(code))), ("grpc-message", _percent(sentence))]
        self._h2.send_headers(stream, headers, end_stream=True)

    def _send_replies(self) -> None:
        for stream, reply in list(self._replies.items()):
            at = 0
            while at < len(reply) and (room := self._h2.local_flow_control_window(stream)) > 0:
                piece = reply[at : at + min(room, self._h2.max_outbound_frame_size)]
                self._h2.send_data(stream, piece)
                at += len(piece)
            self._replies[stream] = reply[at:]
            if at == len(reply):
                del self._replies[stream]
                self._h2.send_headers(stream, [("grpc-status", str(int(Code.OK)))], end_stream=True)


def _percent(text: str) -> str:
    """Return a text as grpc-message has it: percent-encoded but for printable ASCII."""
    plain = frozenset(range(0x20, 0x7F)) - {ord("%")}
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def _unframed(body: bytes) -> bytes:
    """Return the one message in a request's body. Raises RefusedError."""
    if len(body) < _PREFIX or len(body) != _PREFIX + int.from_bytes(body[1:_PREFIX], "big"):
        raise RefusedError("the request is not one whole gRPC message", Code.INVALID_ARGUMENT)
    if body[0]:
        raise RefusedError("compressed requests are not taken", Code.UNIMPLEMENTED)
    return body[_PREFIX:]
