"""The temporary folder of a run: made with a short name, and taken away by the next run if its own was killed.

A run holds a lock on a file in it for as long as it lives. What is in the folder is not its business.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

_PREFIX = "vap-"
_LONGEST = 40
"""Characters of a TMPDIR that is used; a longer one leaves too few of a unix socket's 108 for its name."""
_LOCK = "lock"


def make(*, keep: bool) -> tuple[Path, IO[str] | None]:
    """Make a folder for this run alone, after taking away those of runs that were killed.

    Return it with the open file that says that the run lives; None with ``keep``, when the folder is to stay.
    """
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own there, for us alone
    _sweep(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    return folder, None if keep else _hold(folder)


def _hold(folder: Path) -> IO[str]:
    """Lock the folder; its lock is never there without being held, so that nobody takes us for dead."""
    making = folder / f"{_LOCK}.new"
    handle = making.open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    making.rename(folder / _LOCK)
    return handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open() as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # it lives, was kept, or has just gone
