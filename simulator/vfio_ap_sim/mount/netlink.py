"""Uevents for udev: told to the kernel, which passes them on to the listeners of a network namespace.

A message that is sent to the kernel over NETLINK_KOBJECT_UEVENT goes to every listener of the sender's network
namespace as if the kernel had sent it (``lib/kobject_uevent.c:uevent_net_broadcast``); libudev and pyudev take no
others. It needs CAP_SYS_ADMIN in the user namespace that owns the network namespace. The kernel adds SEQNUM.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from vfio_ap_sim.kernel import ControlError

_KOBJECT_UEVENT = 15
_HEADER = struct.Struct("=IHHII")
_TYPE, _REQUEST, _ACKNOWLEDGE = 16, 1, 4
_OWN = "uevents need a network namespace of their own: add --net to unshare"


def _in_first_namespace() -> bool:
    """Whether this is the network namespace of the machine's first process, as far as we may see."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino == Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        return False


class Broadcast:
    """Sends uevents into the network namespace of this process."""

    def __init__(self) -> None:
        """Open the socket. Raises ControlError in a namespace that is not ours, whose udev must not hear this."""
        if _in_first_namespace():
            raise ControlError(_OWN)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _KOBJECT_UEVENT)
        self._tell(b"")  # listeners drop a message without a device; the kernel says whether we may

    def send(self, variables: Mapping[str, str]) -> None:
        """Send one uevent. Raises ControlError when the kernel does not pass it on."""
        lines = [f"{variables['ACTION']}@{variables['DEVPATH']}"]
        lines += [f"{name}={value}" for name, value in variables.items() if name != "SEQNUM"]
        self._tell("".join(f"{line}\0" for line in lines).encode())

    def _tell(self, body: bytes) -> None:
        header = _HEADER.pack(_HEADER.size + len(body), _TYPE, _REQUEST | _ACKNOWLEDGE, 0, 0)
        self._socket.sendto(header + body, (0, 0))
        error = -struct.unpack_from("=i", self._socket.recv(4096), _HEADER.size)[0]
        if error not in (0, errno.ESRCH):  # nobody listens
            raise ControlError(f"{_OWN} ({os.strerror(error)})")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
