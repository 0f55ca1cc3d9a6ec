"""The whole model: one machine, its kernel, and the system calls on its files.

Pure and deterministic: no thread, no I/O, no clock but its own. ``host.py`` and the socket server put it to use.
"""

from __future__ import annotations

import errno

from vfio_ap.host import ops as hostops
from vfio_ap_sim.kernel.bus import Bus
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import KernelLog, Uevents
from vfio_ap_sim.kernel.guests import Guest
from vfio_ap_sim.kernel.hardware import hardware_of
from vfio_ap_sim.kernel.machine import Machine
from vfio_ap_sim.kernel.mdevs import Mdevs
from vfio_ap_sim.kernel.nodes import Directory, File, Link, lookup
from vfio_ap_sim.kernel.profile import Profile, profile_named
from vfio_ap_sim.kernel.resets import Resetter
from vfio_ap_sim.kernel.scan import Scanner
from vfio_ap_sim.kernel.tasks import Op, Scheduler, Task
from vfio_ap_sim.kernel.tree import root_directory
from vfio_ap_sim.kernel.vfio_ap import VfioAp

_SECOND = 1_000_000


class Blocked(Exception):
    """A call that was made as if it could not block does; ``task`` is still running."""

    def __init__(self, task: Task[hostops.Result]) -> None:
        super().__init__("the call blocks")
        self.task = task


class Kernel:
    """A booted Linux on one machine."""

    def __init__(self, machine: Machine | None = None, profile: Profile | str = "K7.1") -> None:
        self.machine = machine or Machine()
        self.profile = profile_named(profile) if isinstance(profile, str) else profile
        self.clock = Scheduler()
        self.log = KernelLog(self.clock)
        self.uevents = Uevents()
        self.hardware = hardware_of(self.machine)
        self.bus = Bus(self.profile, self.uevents, self.machine.boot_masks(), self.hardware.works)
        self.scanner = Scanner(self.bus, self.hardware)
        self.mdevs: Mdevs | None = None
        """Of the loaded vfio_ap; None while the module is not loaded."""
        self.guests: dict[str, Guest] = {}
        self.hazards: list[str] = []
        """What this kernel would have done to its memory: reads that overrun a page (V-12), streams too long."""
        self.config_time = 30
        self._timer = 0
        self.root = root_directory(self)
        """``/``, for fronts that need more than the system calls below."""
        self.clock.spawn(self.scanner.scan())
        self.set_config_time(self.config_time)

    def make_driver(self) -> Mdevs:
        """Return a fresh vfio_ap, not yet registered."""
        resetter = Resetter(self.profile, self.clock, self.log, self.hardware)
        driver = VfioAp(self.bus, self.log, resetter, self.hardware, self.scanner.info, self.hazards.append)
        limits = self.hardware.max_adapter, self.hardware.max_domain
        return Mdevs(driver, self.clock, self.log, self.uevents, limits)

    # -- time

    @property
    def seconds(self) -> float:
        """Seconds since boot."""
        return self.clock.now / _SECOND

    def advance(self, seconds: float) -> None:
        """Let time pass: resets end, scans run, requests are repeated."""
        self.clock.advance_to(self.clock.now + round(seconds * _SECOND))

    def set_config_time(self, seconds: int) -> None:
        """Scan every so many seconds from now (B-6)."""
        self.config_time = seconds
        self._timer += 1
        self._arm(self._timer)

    def _arm(self, timer: int) -> None:
        def due() -> None:
            if timer == self._timer:
                self._arm(timer)
                self.clock.spawn(self.scanner.scan())

        self.clock.call_at(self.clock.now + self.config_time * _SECOND, due)

    # -- system calls

    def submit(self, op: hostops.Op, *, comm: str = "agent", pid: int = 4711) -> Task[hostops.Result]:
        """Begin a file operation for a process; the task is done unless the operation blocks."""
        return self.clock.spawn(self._perform(op), comm=comm, pid=pid)

    def call(self, op: hostops.Op) -> hostops.Result:
        """Carry out a file operation that does not block. Raises Blocked when it does."""
        task = self.submit(op)
        if not task.done:
            raise Blocked(task)
        return task.result()

    def read(self, path: str) -> str:
        """Return a file's text. Raises OSError, or Blocked."""
        result = self._succeed(hostops.Read(path))
        assert isinstance(result, hostops.Data)
        return result.content.decode("latin-1")

    def write(self, path: str, text: str) -> None:
        """Write a text once. Raises OSError, or Blocked."""
        self._succeed(hostops.Write(path, text.encode("latin-1")))

    def list(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory. Raises OSError."""
        result = self._succeed(hostops.List(path))
        assert isinstance(result, hostops.Names)
        return result.names

    def link(self, path: str) -> str:
        """Return a link's target. Raises OSError."""
        result = self._succeed(hostops.Link(path))
        assert isinstance(result, hostops.Target)
        return result.target

    def mode(self, path: str) -> int:
        """Return a file's permission bits. Raises SysfsError."""
        node = lookup(self.root, path)
        return node.mode if isinstance(node, File) else 0o755

    def _succeed(self, op: hostops.Op) -> hostops.Result:
        result = self.call(op)
        if isinstance(result, hostops.Failed):
            raise OSError(result.errno, result.name, op.path)
        return result

    def _perform(self, op: hostops.Op) -> Op[hostops.Result]:
        try:
            node = lookup(self.root, op.path, follow=not isinstance(op, hostops.Link))
            match op, node:
                case hostops.Read(), File():
                    return hostops.Data((yield from node.read()))
                case hostops.Write(), File():
                    return hostops.Written((yield from node.write(op.data)))
                case hostops.List(), Directory():
                    return hostops.Names(tuple(sorted(node.names())))
                case hostops.Link(), Link():
                    return hostops.Target(node.target)
                case hostops.List(), _:
                    return hostops.Failed(errno.ENOTDIR)
                case hostops.Link(), _:
                    return hostops.Failed(errno.EINVAL)
                case _:
                    return hostops.Failed(errno.EISDIR)
        except SysfsError as error:
            return hostops.Failed(error.errno)
