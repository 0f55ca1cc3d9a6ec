"""mount(2) and umount2(2), which Python does not offer."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_DETACH = 2
_TYPE = b"fuse"
_SOURCE = b"vfio-ap-sim"


def mount(directory: Path) -> int:
    """Mount a FUSE file system and return the descriptor of its connection. Raises OSError."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    try:
        _call("mount", _SOURCE, os.fsencode(directory), _TYPE, _NOSUID | _NODEV | _NOEXEC, options.encode())
    except OSError:
        os.close(device)
        raise
    return device


def unmount(directory: Path) -> None:
    """Unmount at once; who still has files open gets errors once the connection is closed. Raises OSError."""
    _call("umount2", os.fsencode(directory), _DETACH)


def _call(name: str, *arguments: bytes | int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    types = [ctypes.c_char_p if isinstance(argument, bytes) else ctypes.c_ulong for argument in arguments]
    function = getattr(library, name)
    function.argtypes = types
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
