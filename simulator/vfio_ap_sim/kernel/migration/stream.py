"""The bytes that travel from source to target: big endian, one fixed header, 16 bytes a queue (L-7, L-8).

========  =======================================================================================
series    header
========  =======================================================================================
v1        u32 number of queues, 4 bytes pad
v4plus    u32 magic "vfap", u32 version 1, u32 number of queues, 4 bytes pad, 256-bit control mask
========  =======================================================================================

A queue is u64 TAPQ word, u16 APQN, 6 bytes pad.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from vfio_ap_sim.kernel.bitmap import render

MAGIC, VERSION = 0x76666170, 1
MOST_QUEUES = 65536
_START_V4 = struct.Struct(">III4x")
_HEADER_V1 = struct.Struct(">I4x")
_QUEUE = struct.Struct(">QH6x")
_MASK_BYTES = 32
HEADER_V1 = _HEADER_V1.size
HEADER_V4 = _START_V4.size + _MASK_BYTES
NUMBER_END_V1, NUMBER_END_V4 = 4, 12
"""Where the number of queues ends."""
RED_ZONE = b"\xcc"
"""What the slab allocator has behind a buffer, on a kernel that watches it."""

Queue = tuple[int, int]
"""APQN and TAPQ word."""


def size_v1(queues: int) -> int:
    """Return the length of a stream of the first version."""
    return HEADER_V1 + _QUEUE.size * queues


def size_v4(queues: int) -> int:
    """Return the length of a stream of the later series."""
    return HEADER_V4 + _QUEUE.size * queues


def pack_v1(number: int, queues: Iterable[Queue]) -> bytes:
    """Return a stream of the first version."""
    return _HEADER_V1.pack(number) + _pack(queues)


def pack_v4(control: int, queues: list[Queue]) -> bytes:
    """Return a stream of the later series; ``control`` is a mask of the model."""
    mask = bytes.fromhex(render(control)[2:])
    return _START_V4.pack(MAGIC, VERSION, len(queues)) + mask + _pack(queues)


def number_v1(stream: bytes | bytearray) -> int:
    """Return the announced number of queues."""
    return int.from_bytes(stream[:NUMBER_END_V1], "big")


def start_v4(stream: bytes | bytearray) -> tuple[int, int, int]:
    """Return magic, version and the announced number of queues of the first 12 bytes."""
    magic, version, number = struct.unpack_from(">III", stream)
    return magic, version, number


def control_v4(stream: bytes | bytearray) -> int:
    """Return the control mask."""
    mask = stream[_START_V4.size : HEADER_V4]
    return int(format(int.from_bytes(mask, "big"), "0256b")[::-1], 2)


def queues_v1(stream: bytes | bytearray) -> Iterator[Queue]:
    """Yield the queues that a complete stream of the first version announces."""
    return _queues(stream, HEADER_V1, number_v1(stream))


def queues_v4(stream: bytes | bytearray) -> Iterator[Queue]:
    """Yield the queues that the header announces; those behind its buffer are red zone (case D2)."""
    return _queues(stream, HEADER_V4, start_v4(stream)[2])


def _pack(queues: Iterable[Queue]) -> bytes:
    return b"".join(_QUEUE.pack(word, apqn) for apqn, word in queues)


def _queues(stream: bytes | bytearray, begin: int, number: int) -> Iterator[Queue]:
    for index in range(number):
        at = begin + index * _QUEUE.size
        entry = bytes(stream[at : at + _QUEUE.size]).ljust(_QUEUE.size, RED_ZONE)
        word, apqn = _QUEUE.unpack(entry)
        yield apqn, word
