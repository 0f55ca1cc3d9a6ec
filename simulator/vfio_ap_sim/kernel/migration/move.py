"""What user space does with the kernel's part: one guest's device step by step, or a whole move as QEMU does it.

The order is that of QEMU's ``hw/vfio/migration.c`` (L-5): the source stops, its stream is read, the target
resumes, is written to and runs. The states are set in the stop window, so a refusal costs the guest a pause (L-9).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vfio_ap.host.ops import KernelLine
from vfio_ap_sim.kernel.errors import ControlError, SysfsError
from vfio_ap_sim.kernel.migration.device import DataFile, MigrationDevice
from vfio_ap_sim.kernel.migration.states import State
from vfio_ap_sim.kernel.profile import Migration
from vfio_ap_sim.kernel.tasks import Op, Task, at_once

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.control import Control
    from vfio_ap_sim.kernel.mdev import Mdev

T = TypeVar("T")
_BUFFER = 1 << 20
"""Most bytes that QEMU moves with one read or write (``VFIO_MIG_DEFAULT_DATA_BUFFER_SIZE``)."""
_PATIENCE_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a move ended."""

    errno: int | None
    """What the system call that failed said; None when the guest runs on the target."""
    step: str
    """The step that failed, else ``done``: open, set_state, read on the source; open, write, set_state there."""
    log: tuple[str, ...]
    """What the target's kernel logged meanwhile."""
    source_log: tuple[str, ...]
    stream: bytes
    """What was read on the source."""

    @property
    def ok(self) -> bool:
        """Whether the guest runs on the target now."""
        return self.errno is None

    @property
    def name(self) -> str | None:
        """Name of the errno, such as ``EADDRINUSE``."""
        return None if self.errno is None else errno.errorcode[self.errno]


class Session:
    """One guest's open device on one host, driven step by step.

    Every step is a system call of that guest's QEMU; one that blocks lets time pass on its host. Raises SysfsError
    as the system call fails.
    """

    def __init__(self, control: Control, uuid: str) -> None:
        self._control = control
        self._mdev = _mdev_of(control, uuid)

    @property
    def _migration(self) -> MigrationDevice:
        if self._mdev.migration is None:
            raise SysfsError(errno.ENODEV if self._can_migrate else errno.ENOTTY)
        return self._mdev.migration

    @property
    def _can_migrate(self) -> bool:
        return self._control.kernel.profile.migration is not Migration.ABSENT

    def state(self) -> State:
        """Return the device's state; RUNNING before it is open (L-6)."""
        if self._mdev.migration is None and self._can_migrate:
            return State.RUNNING
        return self._migration.current_state()

    def set_state(self, wanted: int) -> DataFile | None:
        """Change the state; returns the data file of STOP_COPY or RESUMING."""
        if self._mdev.migration is None and self._can_migrate and wanted == State.RUNNING:
            return None
        return self._finish(self._migration.set_state(wanted))

    def data_size(self) -> int:
        """Return the length of the stream as the kernel foretells it."""
        return self._migration.data_size()

    def read(self, file: DataFile, length: int = _BUFFER) -> bytes:
        """Read once from a data file."""
        return self._finish(file.read(length))

    def read_all(self, file: DataFile, length: int = _BUFFER) -> bytes:
        """Read a data file to its end, ``length`` bytes at a time."""
        parts = []
        while part := self.read(file, length):
            parts.append(part)
        return b"".join(parts)

    def write(self, file: DataFile, data: bytes) -> int:
        """Write once to a data file."""
        return self._finish(file.write(data))

    def write_all(self, file: DataFile, data: bytes, length: int = _BUFFER) -> None:
        """Write to a data file, ``length`` bytes at a time."""
        for at in range(0, len(data), length):
            self.write(file, data[at : at + length])

    def close(self, file: DataFile) -> None:
        """Close a data file."""
        self._finish(at_once(file.close))

    def _finish(self, op: Op[T]) -> T:
        guest = self._mdev.guest
        return finish(
            self._control, self._control.kernel.clock.spawn(op, comm="qemu", pid=guest.pid if guest else 1)
        )


def finish(control: Control, task: Task[T]) -> T:
    """Return a task's result, letting time pass on its host until it has one. Raises what the task raises."""
    clock = control.kernel.clock
    end = clock.now + _PATIENCE_US
    while not task.done:
        if clock.next_due is None or clock.next_due > end:
            raise ControlError("a step of the move blocks, and nothing that the host waits for ends it")
        clock.advance_to(clock.next_due)
    return task.result()


def migrate(
    source: Control,
    target: Control,
    uuid: str,
    *,
    target_uuid: str | None = None,
    wire: Callable[[bytes], bytes] = bytes,
) -> Outcome:
    """Move the guest that has mdev ``uuid`` open on the source to the target's mdev of the same (or another) UUID.

    ``wire`` is called in the stop window with what was read on the source, and returns what reaches the target.

    On success the guest has left the source, whose mdev keeps its assignment (L-12), and runs on the target; on
    failure it runs on on the source. Raises ControlError when nothing would even begin: no guest, a kernel that
    cannot migrate, no such mdev on the target.
    """
    session = Session(source, uuid)
    guest = _mdev_of(source, uuid).guest
    there = _mdev_of(target, target_uuid or uuid)
    if guest is None:
        raise ControlError(f"no guest has mdev {uuid} open")
    for side, control, mdev in (("source", source, _mdev_of(source, uuid)), ("target", target, there)):
        _check_can_migrate(side, control, mdev)
    source_log, target_log = _Log(source), _Log(target)
    stream = b""
    step = "set_state on the source"

    def ended(failure: int | None) -> Outcome:
        return Outcome(failure, step, target_log.end(), source_log.end(), stream)

    saving: DataFile | None = None
    try:
        session.set_state(State.STOP)
        saving = session.set_state(State.STOP_COPY)
        assert saving is not None
        step = "read"
        stream = session.read_all(saving)
        arriving = wire(stream)
        step = "open"
        finish(target, target.start_guest(guest.name, there.uuid, obeys=guest.obeys))
        step = "write"
        _resume(target, there.uuid, guest.name, arriving)
    except SysfsError as error:
        if saving is not None:
            session.close(saving)
            session.set_state(State.RUNNING)
        return ended(error.errno)
    session.close(saving)
    session.set_state(State.STOP)
    finish(source, source.stop_guest(guest.name))
    step = "done"
    return ended(None)


def _resume(target: Control, uuid: str, guest: str, stream: bytes) -> None:
    """Have the target's guest take a stream and run. Raises SysfsError once the guest is gone again."""
    session = Session(target, uuid)
    resuming: DataFile | None = None
    try:
        session.set_state(State.STOP)
        resuming = session.set_state(State.RESUMING)
        assert resuming is not None
        session.write_all(resuming, stream)
    except SysfsError:
        if resuming is not None:
            session.close(resuming)
        finish(target, target.stop_guest(guest))
        raise
    session.close(resuming)
    session.set_state(State.STOP)
    session.set_state(State.RUNNING)


def _mdev_of(control: Control, uuid: str) -> Mdev:
    mdevs = control.kernel.mdevs
    mdev = mdevs.by_uuid.get(uuid.lower()) if mdevs else None
    if mdev is None:
        raise ControlError(f"device not found: mediated device '{uuid}' not found")
    return mdev


def _check_can_migrate(side: str, control: Control, mdev: Mdev) -> None:
    """Refuse what QEMU refuses before anything begins (L-2, L-3, and ``migratable`` of the first version)."""
    migration = control.kernel.profile.migration
    if migration is Migration.ABSENT:
        raise ControlError(f"{side}: VFIO migration is not supported in kernel")
    if migration is Migration.COMPARES and not mdev.migratable:
        raise ControlError(f"{side}: migration is disabled: 'migratable' of mdev {mdev.uuid} is 0")


class _Log:
    """Kernel log lines from now to ``end``."""

    def __init__(self, control: Control) -> None:
        self._lines: list[str] = []
        self._stop: Callable[[], None] = control.kernel.log.subscribe(self._note)

    def _note(self, line: KernelLine) -> None:
        self._lines.append(line.text)

    def end(self) -> tuple[str, ...]:
        """Stop listening and return the lines."""
        self._stop()
        return tuple(self._lines)
