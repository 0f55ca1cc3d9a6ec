"""What the kernel says on its own account: uevents of AP and mdev devices, and log lines of vfio_ap.

A source ends quietly where a host has no such thing (a directory that stands for /sys has no events): then the
periodic reading notices what there is to notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from vfio_ap.host.ops import KernelLine, Uevent, WireError, kmsg_from_wire
from vfio_ap_agent.host.client import socket_lane

_LOG = logging.getLogger(__name__)
SUBSYSTEMS = ("ap", "mdev", "matrix", "vfio")
_KMSG_RECORD = 8192
_RETRY = 2.0


def uevents(where: str) -> AsyncIterator[Uevent]:
    """Return the uevents of the host that ``--sysfs`` names, of the subsystems that matter."""
    if where.startswith("unix:"):
        return _wire_uevents(where.removeprefix("unix:"))
    return _netlink() if not where else _nothing()


def kernel_log(where: str) -> AsyncIterator[KernelLine]:
    """Return the kernel log lines of the host that ``--sysfs`` names, from now on."""
    if where.startswith("unix:"):
        return _wire_kmsg(where.removeprefix("unix:"))
    return _dev_kmsg() if not where else _nothing()


async def _nothing() -> AsyncIterator[Any]:
    none: tuple[Any, ...] = ()
    for item in none:
        yield item


async def _subscription(path: str, what: str) -> AsyncGenerator[object, None]:
    """Yield what a subscribed connection carries; reconnects for ever."""
    while True:
        lane = None
        try:
            lane = await socket_lane(path)()
            await lane.connection.subscribe(what)
            while True:
                message = await lane.connection.message()
                yield message.get(what)
        except OSError as error:
            _LOG.info("%ss are not to be had: %s; trying again", what, error)
        finally:
            if lane is not None:
                lane.connection.close()
        await asyncio.sleep(_RETRY)


async def _wire_uevents(path: str) -> AsyncIterator[Uevent]:
    async with contextlib.aclosing(_subscription(path, "uevent")) as items:
        async for item in items:
            if isinstance(item, dict) and item.get("SUBSYSTEM") in SUBSYSTEMS:
                yield Uevent({str(name): str(value) for name, value in item.items()})


async def _wire_kmsg(path: str) -> AsyncIterator[KernelLine]:
    async with contextlib.aclosing(_subscription(path, "kmsg")) as items:
        async for item in items:
            with contextlib.suppress(WireError):
                yield kmsg_from_wire(item)


async def _readable(file: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)


async def _netlink() -> AsyncIterator[Uevent]:
    try:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        monitor.start()
    except (ImportError, OSError) as error:
        _LOG.warning("no uevents, changes are noticed by reading alone: %s", error)
        return
    while True:
        await _readable(monitor.fileno())
        while (device := monitor.poll(timeout=0)) is not None:
            if device.subsystem in SUBSYSTEMS:
                yield Uevent({**device.properties, "ACTION": device.action or "", "DEVPATH": device.device_path})


async def _dev_kmsg() -> AsyncIterator[KernelLine]:
    try:
        file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(file, 0, os.SEEK_END)
    except OSError as error:
        _LOG.warning("no kernel log: %s", error)
        return
    try:
        while True:
            await _readable(file)
            try:
                record = os.read(file, _KMSG_RECORD)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.EPIPE:  # lines were overwritten before they were read
                    continue
                raise
            if line := parse_kmsg(record):
                yield line
    finally:
        os.close(file)


def parse_kmsg(record: bytes) -> KernelLine | None:
    """Return the line of a /dev/kmsg record, ``6,339,5140900,-;text``; None for anything else."""
    prefix, semicolon, text = record.decode(errors="replace").partition(";")
    fields = prefix.split(",")
    if not semicolon or len(fields) < 3 or not all(field.isdecimal() for field in fields[:3]):
        return None
    return KernelLine(int(fields[0]) & 7, int(fields[1]), int(fields[2]), text.partition("\n")[0])
