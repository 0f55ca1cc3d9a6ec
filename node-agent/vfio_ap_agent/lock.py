"""The lock that s390-tools (chzdev, ap-check under mdevctl) and this agent share (T-10).

It is a file made by link(2) of a temporary file that holds ``<pid>`` and a newline. It is stale when that process
is gone, or when it has held no PID for 120 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from vfio_ap.errors import Refusal, RefusedError

DEFAULT = Path("/run/lock/s390apconfig.lock")
_RETRY = 0.03
_PATIENCE = 100.0
"""As s390-tools: about 3000 tries of 30 to 33 ms."""
_EMPTY_STALE = 120.0


@contextlib.asynccontextmanager
async def config_lock(path: Path | None, *, patience: float = _PATIENCE) -> AsyncIterator[None]:
    """Hold the lock. Raises RefusedError: LockHeld after ``patience`` seconds, LockUnavailable.

    Without a path there is nothing to share the host with, and nothing is locked.
    """
    if path is None:
        yield
        return
    await _acquire(path, patience)
    try:
        yield
    finally:
        if _owner(path) == os.getpid():
            _unlink(path)


async def _acquire(path: Path, patience: float) -> None:
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        mine.write_text(f"{os.getpid()}\n")
    except OSError as error:
        remedy = "mount the host's /run/lock, or name another file with --lock-file"
        raise RefusedError(Refusal("LockUnavailable", str(path), error.strerror or str(error), remedy)) from None
    try:
        end = asyncio.get_running_loop().time() + patience
        while True:
            try:
                _link(path, mine)
                return
            except FileExistsError:
                _break_if_stale(path)
            if asyncio.get_running_loop().time() > end:
                text = f"is held by process {_owner(path) or 'unknown'} (chzdev, mdevctl or another agent)"
                raise RefusedError(Refusal("LockHeld", str(path), text, "nothing was changed; it is tried again"))
            await asyncio.sleep(_RETRY)
    finally:
        mine.unlink(missing_ok=True)


def _link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _owner(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _break_if_stale(path: Path) -> None:
    """Remove a stale lock: moved away first, so that a lock taken meanwhile is noticed and put back."""
    if not _stale(path):
        return
    aside = path.with_name(f"{path.name}.stale.{os.getpid()}")
    try:
        path.rename(aside)
    except OSError:
        return
    if not _stale(aside):
        with contextlib.suppress(OSError):
            path.hardlink_to(aside)
    aside.unlink(missing_ok=True)


def _stale(path: Path) -> bool:
    owner = _owner(path)
    if owner is None:
        try:
            return time.time() - path.stat().st_mtime > _EMPTY_STALE
        except OSError:
            return False
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # The same number in another container, or a process of ours that died and left its number to us.
    return owner == os.getpid()
