"""What can go wrong while getting or running the control plane, each with a remedy."""

from __future__ import annotations

from vfio_ap.errors import Refusal, RefusedError


class LauncherError(RefusedError):
    """Anything the launcher could not do; carries the ``Refusal`` as ``refusal``."""

    reason = "LauncherFailed"

    def __init__(self, subject: str, message: str, remedy: str = "") -> None:
        super().__init__(Refusal(self.reason, subject, message, remedy))


class DownloadFailedError(LauncherError):
    """A release server could not be reached, or did not answer with the file."""

    reason = "DownloadFailed"


class ChecksumMismatchError(LauncherError):
    """A downloaded file is not the one its release names; it is never installed and nothing else is tried."""

    reason = "ChecksumMismatch"


class NoGoError(LauncherError):
    """No Go toolchain is new enough and none could be installed."""

    reason = "NoGoToolchain"


class BuildFailedError(LauncherError):
    """``go build`` ended with an error."""

    reason = "BuildFailed"


class CacheUnusableError(LauncherError):
    """The folder that keeps the binaries cannot be written, or is full."""

    reason = "CacheUnusable"


class BinaryUnavailableError(LauncherError):
    """No way of getting a binary worked; the message names each way and why it failed."""

    reason = "BinaryUnavailable"


class NoPortError(LauncherError):
    """No free loopback port was found."""

    reason = "NoFreePort"


class ProcessDiedError(LauncherError):
    """A component ended by itself; the message ends with the tail of its log."""

    reason = "ProcessDied"


class NotReadyError(LauncherError):
    """A component runs but did not become ready before its deadline."""

    reason = "NotReady"


class CommandFailedError(LauncherError):
    """A kubectl command ended with an error; the message holds what it said."""

    reason = "CommandFailed"
