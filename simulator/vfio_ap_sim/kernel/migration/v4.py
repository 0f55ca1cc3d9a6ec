"""Migration as the series after v4 does it: the target takes over the source's configuration (kernel-ap.md 4.2).

Faults included, as ``transcripts/migration`` of the real kernel shows them: short streams are no error, a refused
stream leaves EFAULT until the device is opened again, a cancelled migration leaves its stream for the next one,
and a configuration once applied is never taken back. Function names are those of ``vfio_ap_migration.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

from vfio_ap_sim.kernel.bitmap import has, ids_of
from vfio_ap_sim.kernel.devices import VFIO_DRIVER, queue_name
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import ERROR
from vfio_ap_sim.kernel.hardware import NOT_AVAILABLE
from vfio_ap_sim.kernel.mdev import Matrix
from vfio_ap_sim.kernel.migration import hwinfo, stream
from vfio_ap_sim.kernel.migration.device import DataFile, MigrationDevice
from vfio_ap_sim.kernel.migration.states import State
from vfio_ap_sim.kernel.tasks import Op, at_once

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.mdev import Mdev
    from vfio_ap_sim.kernel.vfio_ap import VfioAp


class LaterSeries(MigrationDevice):
    """One open device."""

    def __init__(self, driver: VfioAp, mdev: Mdev) -> None:
        super().__init__(driver, mdev)
        self.saving: ReadFile | None = None
        self.saved: bytes | None = None
        """Made at the first read and kept for the whole open, whatever becomes of the move."""
        self.resuming: WriteFile | None = None
        self.head = bytearray(stream.NUMBER_END_V4)
        """The begin of the stream, until the number of queues is known."""
        self.filled = False
        """Whether ``head`` is complete; stays so when ``buffer`` is dropped, hence EFAULT until the next open."""
        self.buffer: bytearray | None = None
        self.writing = False

    def current_state(self) -> State:
        """Return the state."""
        return self.state

    def data_size(self) -> int:
        """Return the length of a stream made now."""
        return stream.size_v4(self.mdev.shadow.size())

    def refuse_secure_guest(self) -> NoReturn:
        """The feature is not offered."""
        raise SysfsError(errno.ENOTTY)

    def save(self) -> DataFile:
        """Open the file that is read; its stream is made at the first read."""
        self.saving = ReadFile(self.driver, self.mdev)
        return self.saving

    def resume(self) -> DataFile:
        """Open the file that is written."""
        self.resuming = WriteFile(self.driver, self.mdev)
        return self.resuming

    def stop(self) -> None:
        """Nothing is checked and no file closed: it works on in STOP and RUNNING."""

    def release(self) -> None:
        """Forget files and streams, but not that a head was filled."""
        self.saving = self.saved = self.resuming = self.buffer = None

    # -- source

    def snapshot(self) -> bytes:
        """Return the stream of the shadow as it is now (``vfio_ap_get_config``). Raises what TAPQ comes to."""
        shadow = self.mdev.shadow
        return stream.pack_v4(shadow.control, [(apqn, self._word(apqn)) for apqn in shadow.apqns()])

    def _word(self, apqn: int) -> int:
        """Return the TAPQ word of a queue (``get_hardware_info_for_queue``). Raises ENODEV or EIO."""
        hardware = self.driver.hardware
        answer = hardware.tapq(apqn)
        if not answer.informs:
            text = f"Failed to get hwinfo for queue {queue_name(apqn)}: TAPQ rc={answer.code}"
            absent = answer.code == NOT_AVAILABLE
            self._complain("get_hardware_info_for_queue", "absent" if absent else "other", text)
            raise SysfsError(errno.ENODEV if absent else errno.EIO)
        return hardware.word(apqn, facilities=self.driver.profile.tapq_facilities)

    # -- target

    def take_over(self, content: bytearray) -> Op[None]:
        """Check a complete stream and make its configuration the mdev's (``do_post_copy_processing``)."""
        queues = [*stream.queues_v4(content)]
        control = stream.control_v4(content)
        self._check_available(queues, control)
        self._check_compatible(queues)
        adapters = domains = 0
        for apqn, _ in queues:
            adapters |= 1 << (apqn >> 8)
            domains |= 1 << (apqn & 255)
        wanted = Matrix(adapters, domains, control)

        def apply() -> Op[None]:
            if self.mdev.migration is None:
                raise SysfsError(errno.ENODEV)
            yield from self.driver.set_config(self.mdev, wanted)

        yield from self.driver.updating(apply())

    def _check_available(self, queues: list[stream.Queue], control: int) -> None:
        """Steps 6 and 7: all that is missing is told, but control domains only when no queue is missing."""
        bus, uuid = self.driver.bus, self.mdev.uuid
        missing = False
        for apqn, _ in queues:
            queue = bus.queues.get(apqn)
            if queue is None or queue.driver != VFIO_DRIVER:
                text = f"Queue {queue_name(apqn)} not available to vfio_ap driver on target host"
                self._complain("queues_available", "", text)
                missing = True
        if missing:
            raise SysfsError(errno.ENODEV)
        for domain in ids_of(control):
            if not has(self.driver.info.control, domain):
                text = f"vfio_ap_mdev: {uuid}: Control domain {domain:04x} not available on the destination host"
                self.driver.log.write_limited("control_domains_available", ERROR, text)
                missing = True
        if missing:
            raise SysfsError(errno.ENODEV)

    def _check_compatible(self, queues: list[stream.Queue]) -> None:
        """Steps 8 and 9: every queue is looked at, and the errno is that of the last bad one."""
        bad: SysfsError | None = None
        for apqn, source in queues:
            try:
                target = self._word(apqn)
            except SysfsError as error:
                bad = error
                continue
            if not hwinfo.compatible(source, target):
                for function, site, text in hwinfo.complaints(apqn, source, target):
                    self._complain(function, site, text)
                bad = SysfsError(errno.EINVAL)
        if bad is not None:
            raise bad

    def _complain(self, function: str, site: str, text: str) -> None:
        self.driver.log.write_limited(function, ERROR, f"vfio_ap_mdev {self.mdev.uuid}: {text}", site=site)


class ReadFile(DataFile):
    """What STOP to STOP_COPY opened."""

    def read(self, length: int) -> Op[bytes]:
        """Read on. ENODEV when the device was closed, EINVAL when this is no longer its file."""

        def copy() -> bytes:
            migration = self.mdev.migration
            if migration is None:
                raise SysfsError(errno.ENODEV)
            assert isinstance(migration, LaterSeries)
            if migration.saving is not self:
                raise SysfsError(errno.EINVAL)
            if migration.saved is None:
                migration.saved = migration.snapshot()
            data = migration.saved[self.position : self.position + length]
            self.position += len(data)
            return data

        return self.driver.locked(at_once(copy))


class WriteFile(DataFile):
    """What STOP to RESUMING opened."""

    def write(self, data: bytes) -> Op[int]:
        """Add to the stream; the write that completes it checks and applies it (``vfio_ap_resuming_write``)."""
        begun = yield from self.driver.locked(at_once(lambda: self._begin(data)))
        if begun is None:
            return len(data)
        migration, content, end = begun
        try:
            if end == len(content):
                yield from migration.take_over(content)
            yield from self.driver.locked(at_once(lambda: self._keep(content)))
        finally:
            migration.writing = False
        return len(data)

    def _begin(self, data: bytes) -> tuple[LaterSeries, bytearray, int] | None:
        """Check the call and copy the data; returns the stream so far and where the data ends in it.

        None when the number of queues is not there yet.
        """
        migration = self._checked(len(data))
        position = self.position
        if migration.filled:
            assert migration.buffer is not None
            content, rest, at = bytearray(migration.buffer), data, position
        else:
            head = data[: stream.NUMBER_END_V4 - position]
            migration.head[position : position + len(head)] = head
            if position + len(head) < stream.NUMBER_END_V4:
                self.position += len(data)
                return None
            migration.filled = True
            number = stream.start_v4(migration.head)[2]
            if number > stream.MOST_QUEUES:
                raise SysfsError(errno.EINVAL)
            content = bytearray(stream.size_v4(number))
            content[: len(migration.head)] = migration.head
            rest, at = data[len(head) :], stream.NUMBER_END_V4
        self.position += len(data)
        end, size = at + len(rest), len(content)
        if end > size:
            self.driver.hazard(f"{self.mdev.uuid}: {end - size} bytes of a stream written behind its buffer")
        content[at:end] = rest[: size - at]
        migration.writing = True
        return migration, content, end

    def _checked(self, length: int) -> LaterSeries:
        """Steps 2 to 5, in order (``validate_resuming_write_parms``)."""
        if not length:
            raise SysfsError(errno.EINVAL)
        migration = self.mdev.migration
        if migration is None:
            raise SysfsError(errno.ENODEV)
        assert isinstance(migration, LaterSeries)
        if migration.resuming is not self:
            raise SysfsError(errno.ENXIO)
        if migration.writing:
            raise SysfsError(errno.EBUSY)
        if migration.filled != (migration.buffer is not None):
            raise SysfsError(errno.EFAULT)
        if migration.buffer is not None:
            if stream.start_v4(migration.buffer)[:2] != (stream.MAGIC, stream.VERSION):
                raise SysfsError(errno.EINVAL)
            if self.position + length > len(migration.buffer):
                raise SysfsError(errno.EIO)
        return migration

    def _keep(self, content: bytearray) -> None:
        """Keep the stream so far for the next write (``set_new_ap_configuration``)."""
        migration = self.mdev.migration
        if migration is None:
            raise SysfsError(errno.ENODEV)
        assert isinstance(migration, LaterSeries)
        migration.buffer = content
