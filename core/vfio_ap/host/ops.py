"""File operations on an AP host as data, and their wire form.

Whoever talks to a host (the agent) and whoever answers (the kernel through a worker process, or the kernel
model) exchange batches of these operations. They are plain data so that a batch can be sent over a pipe or a
socket, given a deadline, recorded and replayed. This module performs none of them.

Paths are absolute and as on the host: ``/sys/bus/ap/apmask``, ``/proc/sysinfo``.

Wire form: a frame is a 4-byte big-endian length and that many bytes of JSON (UTF-8). File contents travel as
strings in which each character is one byte (latin-1), since sysfs text may be anything.

===========================  ======================================================================
client sends                 server answers
===========================  ======================================================================
``{"id": 7, "ops": [...]}``  ``{"id": 7, "results": [...]}``, same order and number
``{"subscribe": "uevent"}``  ``{"subscribed": "uevent"}``, then one ``{"uevent": {...}}`` per event
``{"subscribe": "kmsg"}``    ``{"subscribed": "kmsg"}``, then one ``{"kmsg": {...}}`` per log line
===========================  ======================================================================

A connection's batches are carried out one after the other; an operation that blocks in the kernel delays
only its own connection. A subscribed connection carries nothing else.
"""

from __future__ import annotations

import errno as _errno
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

_LENGTH = struct.Struct(">I")
FRAME_LIMIT = 64 * 1024 * 1024
"""Longest accepted frame in bytes; a longer one is nonsense or an attack."""


@dataclass(frozen=True, slots=True)
class Read:
    """Open, read to the end (at most one page for sysfs), close."""

    path: str


@dataclass(frozen=True, slots=True)
class Write:
    """Open without creating or truncating, exactly one write(2), close (kernel-ap.md S-4)."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class List:
    """Names in a directory, sorted."""

    path: str


@dataclass(frozen=True, slots=True)
class Link:
    """Target of a symbolic link, as readlink(2) gives it."""

    path: str


Op: TypeAlias = Read | Write | List | Link


@dataclass(frozen=True, slots=True)
class Data:
    """Content of a file that was read."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that the one write(2) accepted."""

    count: int


@dataclass(frozen=True, slots=True)
class Names:
    """Entries of a directory, sorted."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What a symbolic link points to."""

    target: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The operation failed with this errno; nothing else is known."""

    errno: int

    @property
    def name(self) -> str:
        """Symbolic name, e.g. ``EBUSY``."""
        return _errno.errorcode.get(self.errno, f"errno {self.errno}")


Result: TypeAlias = Data | Written | Names | Target | Failed


@dataclass(frozen=True, slots=True)
class Uevent:
    """One kernel uevent: its variables as sent, ACTION, DEVPATH and SUBSYSTEM among them."""

    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KernelLine:
    """One kernel log line: priority 0-7, sequence number, microseconds since boot, text."""

    priority: int
    sequence: int
    microseconds: int
    text: str


class HostOps(Protocol):
    """What the agent needs of a host; implemented by a worker process, a socket and, in tests, in process."""

    async def run(self, ops: Sequence[Op], *, deadline: float) -> list[Result]:
        """Carry out the operations in order, within ``deadline`` seconds.

        Raises TimeoutError when the deadline passes; which of the operations took effect is then unknown.
        Raises ConnectionError when the other side is gone.
        """
        ...


class WireError(ValueError):
    """A frame that does not follow the wire form."""


def encode_frame(message: Mapping[str, Any]) -> bytes:
    """Return the frame for one message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def frame_length(header: bytes) -> int:
    """Return the body length announced by a 4-byte header. Raises WireError when it is over the limit."""
    (length,) = _LENGTH.unpack(header)
    if length > FRAME_LIMIT:
        raise WireError(f"frame of {length} bytes is over the limit of {FRAME_LIMIT}")
    return int(length)


def decode_body(body: bytes) -> dict[str, Any]:
    """Return the message of a frame's body. Raises WireError when it is not a JSON object."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError(f"expected an object, got {type(message).__name__}")
    return message


def op_to_wire(op: Op) -> list[str]:
    """Return the wire form of an operation: its verb, path and, for a write, the data."""
    match op:
        case Read(path):
            return ["read", path]
        case Write(path, data):
            return ["write", path, data.decode("latin-1")]
        case List(path):
            return ["list", path]
        case Link(path):
            return ["link", path]


def op_from_wire(item: object) -> Op:
    """Return the operation of a wire form. Raises WireError."""
    match item:
        case ["read", str(path)]:
            return Read(path)
        case ["write", str(path), str(data)]:
            return Write(path, _bytes(data))
        case ["list", str(path)]:
            return List(path)
        case ["link", str(path)]:
            return Link(path)
    raise WireError(f"not an operation: {item!r:.200}")


def result_to_wire(result: Result) -> list[Any]:
    """Return the wire form of a result."""
    match result:
        case Data(content):
            return ["data", content.decode("latin-1")]
        case Written(count):
            return ["written", count]
        case Names(names):
            return ["names", list(names)]
        case Target(target):
            return ["target", target]
        case Failed(errno):
            return ["failed", errno]


def result_from_wire(item: object) -> Result:
    """Return the result of a wire form. Raises WireError."""
    match item:
        case ["data", str(content)]:
            return Data(_bytes(content))
        case ["written", int(count)]:
            return Written(count)
        case ["names", [*names]]:
            return Names(tuple(_text(name) for name in names))
        case ["target", str(target)]:
            return Target(target)
        case ["failed", int(errno)]:
            return Failed(errno)
    raise WireError(f"not a result: {item!r:.200}")


def kmsg_to_wire(line: KernelLine) -> dict[str, Any]:
    """Return the wire form of a kernel log line."""
    return {
        "priority": line.priority,
        "sequence": line.sequence,
        "microseconds": line.microseconds,
        "text": line.text,
    }


def kmsg_from_wire(item: object) -> KernelLine:
    """Return the kernel log line of a wire form. Raises WireError."""
    match item:
        case {
            "priority": int(priority),
            "sequence": int(sequence),
            "microseconds": int(microseconds),
            "text": str(text),
        }:
            return KernelLine(priority, sequence, microseconds, text)
    raise WireError(f"not a kernel log line: {item!r:.200}")


def _text(item: object) -> str:
    if not isinstance(item, str):
        raise WireError(f"not a name: {item!r:.200}")
    return item


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise WireError("file content with characters above one byte") from None
