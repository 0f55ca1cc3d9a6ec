"""The hook socket as a file: made in place of a dead one, never of a living one, and removed at the end."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from vfio_ap_hook.paths import SOCKET_NAME, socket_address

BACKLOG: Final = 64
"""Clients that may be waiting; one more would be turned away with EAGAIN."""


@contextmanager
def listening(folder: str) -> Iterator[socket.socket]:
    """Listen on the hook socket; call this when all is ready, for virt-launcher waits one second for an answer.

    Every user may connect: virt-launcher may be root or not, and only its container and ours see the folder. The
    name appears at once as it stays: virt-launcher would count a socket that is renamed as two.

    Raises OSError: the folder cannot be used, or another sidecar answers there.
    """
    with socket_address(folder) as address, socket.socket(socket.AF_UNIX) as listener:
        _clear(address)
        umask = os.umask(0o111)
        try:
            listener.bind(address)
        finally:
            os.umask(umask)
        ours = os.lstat(address).st_ino
        try:
            listener.setblocking(False)
            listener.listen(BACKLOG)
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if os.lstat(address).st_ino == ours:
                    os.unlink(address)  # noqa: PTH108 - the folder is known by its descriptor only


def _clear(address: str) -> None:
    """Remove the socket that an earlier run of this container left."""
    try:
        mode = os.lstat(address).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{SOCKET_NAME} is there and is no socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(address)
        except ConnectionRefusedError:
            os.unlink(address)  # noqa: PTH108
            return
    raise FileExistsError(f"another program answers at {SOCKET_NAME}")
