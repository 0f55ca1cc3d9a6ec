"""How the model says that the kernel refused: one exception that carries an errno."""

from __future__ import annotations

import errno as _errno
import os


class SysfsError(Exception):
    """A system call that fails with ``errno``."""

    def __init__(self, errno: int) -> None:
        super().__init__(f"{_errno.errorcode.get(errno, errno)}: {os.strerror(errno)}")
        self.errno = errno


class Interrupted(SysfsError):
    """A signal ended an interruptible wait: the call fails with EINTR and had no effect."""

    def __init__(self) -> None:
        super().__init__(_errno.EINTR)


class ControlError(ValueError):
    """A control verb that cannot be carried out; the message says why, for people."""
