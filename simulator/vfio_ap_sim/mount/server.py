"""Answers what the kernel asks of a mounted machine."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType

from vfio_ap.host import ops as hostops
from vfio_ap_sim.kernel import SysfsError
from vfio_ap_sim.kernel.nodes import Directory, Link
from vfio_ap_sim.kernel.tasks import Task
from vfio_ap_sim.mount import protocol, system
from vfio_ap_sim.mount.protocol import Op, Request
from vfio_ap_sim.mount.table import Nodes, OpenFile, check_access, mode_of
from vfio_ap_sim.serve import Simulator

_TOP = "/sys"
_ROUND = 64
"""Requests that are answered before other work of the event loop gets its turn."""


class Mount:
    """A machine mounted at a directory, which then stands for /sys. ``async with`` mounts and unmounts it."""

    def __init__(self, simulator: Simulator, directory: Path) -> None:
        self._simulator = simulator
        self._kernel = simulator.control.kernel
        self._directory = directory
        top = self._kernel.root.child(_TOP.strip("/"))
        assert isinstance(top, Directory)
        self._nodes = Nodes(top)
        self._open: dict[int, OpenFile] = {}
        self._handles = count(1)
        self._waiting: dict[int, Task[hostops.Result]] = {}
        """Requests whose callers wait, by their unique number."""
        self._device = -1
        self._handlers: dict[int, Callable[[Request], bytes]] = {
            Op.LOOKUP: self._lookup,
            Op.GETATTR: self._getattr,
            Op.SETATTR: self._setattr,
            Op.READLINK: self._readlink,
            Op.OPEN: self._open_file,
            Op.STATFS: lambda request: protocol.statfs(),
            Op.RELEASE: self._release,
            Op.FLUSH: lambda request: b"",
            Op.INIT: lambda request: protocol.welcome(request.number("=12xI") if len(request.body) >= 16 else 0),
            Op.OPENDIR: self._open_directory,
            Op.READDIR: self._readdir,
            Op.RELEASEDIR: self._release,
            Op.DESTROY: lambda request: b"",
        }

    async def __aenter__(self) -> Mount:
        self._device = system.mount(self._directory)
        asyncio.get_running_loop().add_reader(self._device, self._serve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._device)
        try:
            system.unmount(self._directory)
        finally:
            os.close(self._device)

    # -- requests

    def _serve(self) -> None:
        """Answer what has come in."""
        for _ in range(_ROUND):
            try:
                message = os.read(self._device, protocol.BUFFER)
            except BlockingIOError:
                return
            except OSError as gone:
                if gone.errno in (errno.ENODEV, errno.ECONNABORTED):
                    asyncio.get_running_loop().remove_reader(self._device)
                    return
                if gone.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            self._simulator.time.sync()
            self._take(protocol.parse(message))
            self._simulator.time.sync()

    def _take(self, request: Request) -> None:
        try:
            if request.op in protocol.SILENT:
                self._note(request)
            elif request.op in (Op.READ, Op.WRITE):
                self._transfer(request)
            elif request.op in protocol.CHANGES:
                self._answer(request, errno.EPERM)
            elif request.op == Op.CREATE:
                self._answer(request, errno.EACCES)
            elif handler := self._handlers.get(request.op):
                self._answer(request, 0, handler(request))
            else:
                self._answer(request, errno.ENOSYS)
        except SysfsError as error:
            self._answer(request, error.errno)

    def _answer(self, request: Request, error: int, body: bytes = b"") -> None:
        try:
            os.write(self._device, protocol.answer(request.unique, error, body))
        except FileNotFoundError:
            return  # the caller is gone

    def _note(self, request: Request) -> None:
        """Take what needs no answer: nodes that the kernel forgets, and signals to a caller that waits."""
        if request.op == Op.INTERRUPT:
            task = self._waiting.get(request.number())
            if task is not None:
                task.signal()
            return
        for node, references in request.forgotten():
            self._nodes.forget(node, references)

    # -- names

    def _lookup(self, request: Request) -> bytes:
        number, node = self._nodes.enter(request.node, request.name())
        return protocol.entry(number, self._nodes.inode(self._nodes.path(number)), mode_of(node))

    def _getattr(self, request: Request) -> bytes:
        path = self._nodes.path(request.node)
        return protocol.valid(self._nodes.inode(path), self._nodes.mode(request.node))

    def _setattr(self, request: Request) -> bytes:
        """Truncating does nothing, as in sysfs; nothing else can be changed."""
        if request.number("=I") & ~protocol.SET_SIZE & 7:
            raise SysfsError(errno.EPERM)
        return self._getattr(request)

    def _readlink(self, request: Request) -> bytes:
        node = self._nodes.find(self._nodes.path(request.node))
        if not isinstance(node, Link):
            raise SysfsError(errno.EINVAL)
        return node.target.encode()

    # -- open files

    def _open_file(self, request: Request) -> bytes:
        path = self._nodes.path(request.node)
        check_access(self._nodes.find(path), request.number("=I"))
        return self._opened(path, protocol.DIRECT_IO | protocol.PARALLEL_WRITES)

    def _open_directory(self, request: Request) -> bytes:
        return self._opened(self._nodes.path(request.node), 0)

    def _opened(self, path: str, flags: int) -> bytes:
        handle = next(self._handles)
        self._open[handle] = OpenFile(self._nodes, path)
        return protocol.opened(handle, flags)

    def _readdir(self, request: Request) -> bytes:
        handle, offset, size = request.io()
        opened = self._open[handle]
        if offset == 0:
            opened.list()
        return protocol.entries(opened.listing, offset, size)

    def _release(self, request: Request) -> bytes:
        del self._open[request.number()]
        return b""

    def _transfer(self, request: Request) -> None:
        """Read or write, and answer when it is done: at once, or when what it waits for happens."""
        handle, offset, size = request.io()
        opened = self._open[handle]
        opened.check()
        if request.op == Op.READ and offset and opened.content is not None:
            self._answer(request, 0, opened.content[offset : offset + size])
            return
        path = _TOP + opened.path
        op = hostops.Read(path) if request.op == Op.READ else hostops.Write(path, request.data())
        task = self._kernel.submit(op, comm=_command(request.pid), pid=request.pid)
        self._waiting[request.unique] = task
        task.on_done(partial(self._finish, request, task))

    def _finish(self, request: Request, task: Task[hostops.Result]) -> None:
        del self._waiting[request.unique]
        handle, offset, size = request.io()
        match task.result():
            case hostops.Data(content):
                if handle in self._open:
                    self._open[handle].content = content
                self._answer(request, 0, content[offset : offset + size])
            case hostops.Written(length):
                self._answer(request, 0, protocol.written(length))
            case hostops.Failed(number):
                self._answer(request, number)
            case other:
                raise AssertionError(other)


def _command(pid: int) -> str:
    """Return the name of a caller, as the kernel log shall have it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown"
