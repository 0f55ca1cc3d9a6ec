"""Unix sockets for the owner only; a dead server's socket is replaced, a living one's or another file is not."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


def listen(path: Path) -> socket.socket:
    """Return a listening socket at ``path``. Raises OSError, EADDRINUSE when it is taken."""
    _remove_dead(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        server.bind(str(path))
    except OSError:
        server.close()
        raise
    finally:
        os.umask(mask)
    server.setblocking(False)
    return server


def remove(path: Path) -> None:
    """Remove a socket of ours."""
    path.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EADDRINUSE, "there is a file of this name", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another simulator serves there", str(path))
    path.unlink()
