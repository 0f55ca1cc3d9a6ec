"""The messages of /dev/fuse as far as a sysfs needs them (``include/uapi/linux/fuse.h``, protocol 7.31).

Layouts only: what a request means is decided in ``server.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

MAJOR, MINOR = 7, 31
ROOT_ID = 1
LONGEST_WRITE = 1 << 17
"""A write(2) up to this arrives as one request; sysfs takes a page of it."""
BUFFER = LONGEST_WRITE + 4096
ATOMIC_TRUNCATE = 1 << 3
DIRECT_IO, PARALLEL_WRITES = 1 << 0, 1 << 6
"""Open flags: every read and write is a request of its own, and writers do not wait for one another."""
SET_SIZE = 1 << 3
_HEADER = struct.Struct("=IIQQIIIHH")
_ANSWER = struct.Struct("=IiQ")
_INIT = struct.Struct("=IIIIHHIIHHI28x")
_ATTRIBUTES = struct.Struct("=6Q10I")
_ENTRY = struct.Struct("=4QII")
_VALID = struct.Struct("=QII")
_OPENED = struct.Struct("=QIi")
_IO = struct.Struct("=QQII16x")
_ENTRY_HEAD = struct.Struct("=QQII")
_STATFS = struct.Struct("=5Q4I24x")
_PAGE = 4096


class Op(IntEnum):
    """Requests that are told apart."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


SILENT = {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT}
"""Requests that get no answer."""
CHANGES = {6, 8, 9, 10, 11, 12, 13, 45}
"""symlink, mknod, mkdir, unlink, rmdir, rename, link, rename2: sysfs allows none of them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the kernel."""

    op: int
    unique: int
    node: int
    pid: int
    body: bytes

    def number(self, form: str = "=Q") -> int:
        """Return the first number of the body."""
        number: int = struct.unpack_from(form, self.body)[0]
        return number

    def name(self) -> str:
        """Return the body as a file name."""
        return self.body.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def io(self) -> tuple[int, int, int]:
        """Return handle, offset and size of a read, write or readdir."""
        handle, offset, size, _ = _IO.unpack_from(self.body)
        return handle, offset, size

    def data(self) -> bytes:
        """Return what a write carries."""
        return self.body[_IO.size : _IO.size + self.io()[2]]

    def forgotten(self) -> list[tuple[int, int]]:
        """Return node and count of what FORGET or BATCH_FORGET names."""
        if self.op == Op.FORGET:
            return [(self.node, self.number())]
        return list(struct.iter_unpack("=QQ", self.body[8 : 8 + 16 * self.number("=I")]))


def parse(message: bytes) -> Request:
    """Return the request in a message."""
    length, op, unique, node, _uid, _gid, pid, _extra, _ = _HEADER.unpack_from(message)
    return Request(op, unique, node, pid, message[_HEADER.size : length])


def answer(unique: int, error: int, body: bytes = b"") -> bytes:
    """Return the answer to a request; ``error`` is an errno or 0."""
    return _ANSWER.pack(_ANSWER.size + len(body), -error, unique) + body


def welcome(offered: int) -> bytes:
    """Return the answer to INIT."""
    return _INIT.pack(MAJOR, MINOR, 0, offered & ATOMIC_TRUNCATE, 12, 9, LONGEST_WRITE, 1, 0, 0, 0)


def attributes(inode: int, mode: int) -> bytes:
    """Return a node's attributes; like sysfs, every file claims a page."""
    size = _PAGE if mode & 0o170000 == 0o100000 else 0
    return _ATTRIBUTES.pack(inode, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, _PAGE, 0)


def entry(node: int, inode: int, mode: int) -> bytes:
    """Return what LOOKUP found, to be asked for again next time."""
    return _ENTRY.pack(node, 0, 0, 0, 0, 0) + attributes(inode, mode)


def valid(inode: int, mode: int) -> bytes:
    """Return what GETATTR found, to be asked for again next time."""
    return _VALID.pack(0, 0, 0) + attributes(inode, mode)


def opened(handle: int, flags: int) -> bytes:
    """Return the answer to OPEN or OPENDIR."""
    return _OPENED.pack(handle, flags, 0)


def written(count: int) -> bytes:
    """Return the answer to WRITE."""
    return struct.pack("=II", count, 0)


def entries(found: Sequence[tuple[int, str, int]], offset: int, size: int) -> bytes:
    """Return directory entries (inode, name, mode) from ``offset`` on, at most ``size`` bytes."""
    parts, room = [], size
    for number in range(offset, len(found)):
        inode, name, mode = found[number]
        encoded = name.encode()
        record = _ENTRY_HEAD.pack(inode, number + 1, len(encoded), mode >> 12) + encoded
        record += bytes(-len(record) % 8)
        if len(record) > room:
            break
        parts.append(record)
        room -= len(record)
    return b"".join(parts)


def statfs() -> bytes:
    """Return the answer to STATFS: no blocks, as sysfs says."""
    return _STATFS.pack(0, 0, 0, 0, 0, _PAGE, 255, _PAGE, 0)
