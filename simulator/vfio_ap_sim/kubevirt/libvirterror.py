"""Errors of the played libvirt and QEMU, worded as theirs are and as KubeVirt passes them on."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

_QEMU: Final = 10
"""VIR_FROM_QEMU."""


class Code(IntEnum):
    """Those of ``virErrorNumber`` that are used (include/libvirt/virterror.h)."""

    INTERNAL_ERROR = 1
    OPERATION_FAILED = 9
    XML_ERROR = 27
    OPERATION_INVALID = 55
    CONFIG_UNSUPPORTED = 67
    DEVICE_MISSING = 99


_PREFIX = {
    Code.INTERNAL_ERROR: "internal error: ",
    Code.OPERATION_FAILED: "operation failed: ",
    Code.XML_ERROR: "XML error: ",
    Code.OPERATION_INVALID: "Requested operation is not valid: ",
    Code.CONFIG_UNSUPPORTED: "unsupported configuration: ",
    Code.DEVICE_MISSING: "device not found: ",
}


class LibvirtError(Exception):
    """What libvirt answers; its text is that of libvirt's Go binding."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = _PREFIX[code] + message
        super().__init__(f"virError(Code={code:d}, Domain={_QEMU}, Message='{self.message}')")

    @property
    def to_handler(self) -> str:
        """How virt-launcher tells virt-handler (pkg/virt-launcher/virtwrap/errors/errors.go:59)."""
        return f"LibvirtError(Code={self.code:d}, Domain={_QEMU}, Message='{self.message}')"


def qemu_died(guest: str, said: str) -> LibvirtError:
    """Return the error for a QEMU that ended while it started, with the last line of its log."""
    text = f"QEMU unexpectedly closed the monitor (vm='{guest}'): qemu-system-s390x: {said}"
    return LibvirtError(Code.INTERNAL_ERROR, text)


class SyncError(Exception):
    """virt-handler could not bring a guest to where its VMI wants it; the text is virt-handler's."""


def command_failed(command: str, message: str) -> SyncError:
    """Return the error for a command that virt-launcher refused (pkg/virt-handler/cmd-client/errors.go:54)."""
    quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return SyncError(f'server error. command {command} failed: "{quoted}"')
