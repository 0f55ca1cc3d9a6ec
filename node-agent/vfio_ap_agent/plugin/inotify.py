"""Names that appear in and vanish from one directory, as events.

Linux' inotify through ctypes: the whole need is two calls and one struct, which is less than any library for it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

# include/uapi/linux/inotify.h
_IN_MOVED_FROM: Final = 0x40
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x01000000
_APPEARED: Final = _IN_CREATE | _IN_MOVED_TO
_VANISHED: Final = _IN_DELETE | _IN_MOVED_FROM

_HEADER: Final = struct.Struct("iIII")
_BUFFER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the directory."""

    kind: Literal["appeared", "vanished", "missed"]
    """``missed``: the kernel's queue overflowed, look for yourself."""
    name: str
    """File name; empty for ``missed``."""


class DirectoryEvents:
    """Watch ``path`` from ``__enter__`` on; iterate for what happens.

    Raises:
        OSError: the directory cannot be watched, or (while iterating) it is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> DirectoryEvents:
        """Start the watch."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise self._error("inotify_init1")
        if libc.inotify_add_watch(self._fd, os.fsencode(self._path), _APPEARED | _VANISHED | _IN_ONLYDIR) < 0:
            error = self._error(str(self._path))
            os.close(self._fd)
            raise error
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch."""
        os.close(self._fd)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events in the kernel's order."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._fd, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                for event in self._read():
                    yield event
        finally:
            loop.remove_reader(self._fd)

    def _read(self) -> list[Event]:
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        while data:
            _, mask, _, length = _HEADER.unpack_from(data)
            name = os.fsdecode(data[_HEADER.size : _HEADER.size + length].rstrip(b"\0"))
            data = data[_HEADER.size + length :]
            if mask & _IN_IGNORED:
                raise FileNotFoundError(f"{self._path} is gone")
            if mask & _IN_Q_OVERFLOW:
                events.append(Event("missed", ""))
            elif mask & _APPEARED:
                events.append(Event("appeared", name))
            elif mask & _VANISHED:
                events.append(Event("vanished", name))
        return events

    @staticmethod
    def _error(what: str) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number), what)
