"""The kernel that this runs on, as ``player.Machine``: real files, netlink, kmsg, and guests by real KVM and VFIO.

Runs in the guest; standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import player  # type: ignore[import-not-found]  # beside this file in the guest

BUS = "/sys/bus/ap"
CONF = "/share/ap.conf"
"""The rig's state folder has a link to it, so the emulated LPAR follows what is written here."""
KVM_CREATE_VM, KVM_CREATE_DEVICE, KVM_SET_DEVICE_ATTR = 0xAE01, 0xC00CAEE0, 0x4018AEE1
VFIO = 0x3B64
SET_IOMMU, SET_CONTAINER, GET_DEVICE, SET_IRQS, RESET = (VFIO + n for n in (2, 4, 6, 10, 11))
REQUESTS, CONFIG_CHANGES = 0, 1
"""Interrupts of a vfio-ap device by index."""
NETLINK_KOBJECT_UEVENT = 15
SO_RCVBUFFORCE = 33
PATIENCE = 300.0
"""Seconds; far more than anything takes, for the emulation may be slow and its machine busy."""
HOP, HOPS = 0.05, 20
"""Seconds, more than from the bus's one look at a resetting queue to the next; most times that they are waited."""


def said(call: Callable[[], object]) -> str:
    """Return what a system call said: ``ok``, or the errno's name."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


class Guest:
    """A virtual machine without CPUs that has an mdev open and lets requests for it pass."""

    def __init__(self, uuid: str) -> None:
        self._open: list[int] = []
        try:
            self._requests = self._start(uuid)
        except OSError:
            self.end()
            raise

    def _file(self, number: int) -> int:
        self._open.append(number)
        return number

    def _start(self, uuid: str) -> int:
        number = os.path.basename(os.readlink(f"{player.MATRIX}/{uuid}/iommu_group"))  # noqa: PTH115, PTH119
        container = self._file(os.open("/dev/vfio/vfio", os.O_RDWR))
        group = self._file(os.open(f"/dev/vfio/{number}", os.O_RDWR))
        fcntl.ioctl(group, SET_CONTAINER, struct.pack("i", container))
        fcntl.ioctl(container, SET_IOMMU, 1)
        machine = self._file(fcntl.ioctl(self._file(os.open("/dev/kvm", os.O_RDWR)), KVM_CREATE_VM, 0))
        made = bytearray(struct.pack("III", 4, 0, 0))
        fcntl.ioctl(machine, KVM_CREATE_DEVICE, made)
        link = self._file(struct.unpack("III", made)[1])
        member = ctypes.c_int32(group)
        fcntl.ioctl(link, KVM_SET_DEVICE_ATTR, struct.pack("IIQQ", 0, 1, 1, ctypes.addressof(member)))
        fcntl.ioctl(machine, KVM_SET_DEVICE_ATTR, struct.pack("IIQQ", 0, 2, 4, 0))
        name = ctypes.create_string_buffer(uuid.encode())
        self._device = self._file(fcntl.ioctl(group, GET_DEVICE, name, True))
        requests = self._listen(REQUESTS)
        with contextlib.suppress(OSError):  # 6.12 has no such event (V-28)
            self._listen(CONFIG_CHANGES)
        return requests

    def _listen(self, index: int) -> int:
        event = self._file(os.eventfd(0))
        fcntl.ioctl(self._device, SET_IRQS, struct.pack("IIIIIi", 24, 1 << 2 | 1 << 5, index, 0, 1, event))
        return event

    def await_request(self) -> None:
        """Wait until the kernel asks for the device: the last that a removal does before it blocks."""
        if not select.select([self._requests], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the kernel did not ask for the device within {PATIENCE:.0f} s")

    def reset(self) -> None:
        """Reset the device as a reboot does."""
        fcntl.ioctl(self._device, RESET)

    def end(self) -> None:
        """Close everything, the device first."""
        for number in reversed(self._open):
            os.close(number)
        self._open.clear()


class Real:
    """This machine."""

    def __init__(self) -> None:
        self._kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._kmsg, 0, os.SEEK_END)
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT
        )
        # Beyond rmem_max; were it too small nevertheless, recv would fail with ENOBUFS.
        self._netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._netlink.bind((0, 1))
        self._guests: dict[str, Guest] = {}
        self._count = 0

    # -- files

    def read(self, path: str) -> str:
        return self._with(path, os.O_RDONLY, lambda fd: os.read(fd, 8192).decode())

    def write(self, path: str, text: str) -> str:
        return self._with(path, os.O_WRONLY, lambda fd: str(os.write(fd, text.encode())))

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))  # noqa: PTH208  # names are wanted

    def link(self, path: str) -> str:
        try:
            return os.readlink(path)  # noqa: PTH115  # the text is wanted
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    @staticmethod
    def _with(path: str, flags: int, act: Callable[[int], str]) -> str:
        try:
            fd = os.open(path, flags)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        try:
            return act(fd)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        finally:
            os.close(fd)

    # -- guests

    def start_guest(self, uuid: str) -> str:
        def start() -> None:
            self._guests[uuid] = Guest(uuid)

        return said(start)

    def reset_guest(self, uuid: str) -> str:
        return said(self._guests[uuid].reset)

    def end_guest(self, uuid: str) -> str:
        return said(self._guests.pop(uuid).end)

    def remove_in_use(self, uuid: str) -> list[object]:
        results: list[str] = []
        path = f"{player.MATRIX}/{uuid}/remove"
        writer = threading.Thread(target=lambda: results.append(self.write(path, "1")))
        writer.start()
        self._guests[uuid].await_request()
        blocked = player.look(self)
        self.end_guest(uuid)
        writer.join()
        return [blocked, results]

    # -- hardware

    def configure(self, lines: list[str]) -> str:
        """Change the LPAR, wait for the scan that the kernel is told to make, and see to it that there is another.

        No other scan can come first while the bus's timer is put off. A scan is counted before it is over, and a
        write to ``scans`` meanwhile only waits for its end (``ap_bus.c:ap_bus_force_rescan``): hence the write is
        repeated until a second scan is counted.
        """
        self._count += 1
        before = player.scans(self)
        with open(CONF + ".new", "w") as stream:  # noqa: PTH123
            stream.write("\n".join([*lines, f"# {self._count}", ""]))
        os.rename(CONF + ".new", CONF)  # noqa: PTH104
        end = time.monotonic() + PATIENCE
        while player.scans(self) == before:
            if time.monotonic() > end:
                raise TimeoutError(f"the kernel was not told of the new configuration within {PATIENCE:.0f} s")
            time.sleep(0.01)
        result = "unwritten"
        while player.scans(self) < before + 2 and time.monotonic() < end:
            result = self.write(f"{BUS}/scans", "1")
        return result

    def settle(self) -> None:
        """Let the host's queues end their resets, which the bus notices by a timer.

        Sleeping is a timer of the same kernel: it cannot end before one that was to end earlier, however slow
        the machine. A queue that does not work, or is not the host's, is not looked at and stays as it is.
        """
        for _ in range(HOPS):
            if not any(map(self._resets, self.list(f"{BUS}/drivers/cex4queue"))):
                return
            time.sleep(HOP)

    def _resets(self, name: str) -> bool:
        shown = {"reset": "Reset in progress.\n", "config": "1\n", "chkstop": "0\n"}
        return all(self.read(f"{BUS}/devices/{name}/{attribute}") == text for attribute, text in shown.items())

    # -- what the kernel says

    def log(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(os.read(self._kmsg, 8192).decode().split(";", 1)[1].split("\n")[0])
            except BlockingIOError:
                return [line for line in lines if line.startswith("vfio_ap")]

    def uevents(self) -> list[dict[str, str]]:
        events = []
        while True:
            try:
                parts = self._netlink.recv(65536).decode().split("\0")
            except BlockingIOError:
                return events
            events.append(dict(part.split("=", 1) for part in parts[1:] if "=" in part))
