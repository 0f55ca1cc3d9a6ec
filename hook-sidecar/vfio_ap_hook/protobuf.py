"""The part of protobuf's wire format that the hook protocol needs: bytes, strings and embedded messages.

See https://protobuf.dev/programming-guides/encoding/. Fields of other types are stepped over, as by every
reader of a newer message; groups, which proto3 does not have, are refused.
"""

from __future__ import annotations

from typing import Final

from vfio_ap_hook.errors import Code, RefusedError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST: Final = 10
"""Bytes of the longest varint."""
_LONGEST_TAG: Final = 5


def encode(number: int, value: bytes) -> bytes:
    """Return one field of length-delimited type, written even if empty, as an embedded message must be."""
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def decode(message: bytes) -> dict[int, bytes]:
    """Return a message's length-delimited fields by number; of a repeated one the last, as protobuf says.

    Raises RefusedError for what is no protobuf.
    """
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at, _LONGEST_TAG)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _malformed(f"field number {number}")
        start = at
        if kind == _VARINT:
            _, at = _read_varint(message, at, _LONGEST)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            length, start = _read_varint(message, at, _LONGEST)
            at = start + length
        else:
            raise _malformed(f"wire type {kind}")
        if at > len(message):
            raise _malformed("truncated")
        if kind == _BYTES:
            fields[number] = message[start:at]
    return fields


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, at: int, longest: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + longest]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _malformed("bad varint")


def _malformed(what: str) -> RefusedError:
    return RefusedError(f"the request is no protobuf message: {what}", Code.INVALID_ARGUMENT)
