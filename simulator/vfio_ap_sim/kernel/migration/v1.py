"""Migration as the first version of the series does it: the target only compares (seed 000, kernel-ap.md 4.2).

The target's mdev must already have what the source's guest has. Streams are made when the state changes, from the
TAPQ words that vfio_ap stored when it probed the queues. Function names are those of its ``vfio_ap_migration.c``;
unlike the later series this one was read, not run.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

from vfio_ap_sim.kernel.bitmap import has
from vfio_ap_sim.kernel.devices import queue_name
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import ERROR
from vfio_ap_sim.kernel.migration import hwinfo, stream
from vfio_ap_sim.kernel.migration.device import DataFile, MigrationDevice
from vfio_ap_sim.kernel.tasks import Op, at_once

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.mdev import Mdev
    from vfio_ap_sim.kernel.vfio_ap import VfioAp


class FirstVersion(MigrationDevice):
    """One open device."""

    def __init__(self, driver: VfioAp, mdev: Mdev) -> None:
        super().__init__(driver, mdev)
        self._file: File | None = None

    def refuse_secure_guest(self) -> NoReturn:
        """Say so and raise EPERM."""
        text = "Migration not allowed from or to a Secure Execution guest"
        self.driver.log.write(ERROR, f"vfio_ap_mdev {self.mdev.uuid}: {text}")
        raise SysfsError(errno.EPERM)

    def save(self) -> DataFile:
        """Make the stream of the shadow, and open it for reading."""
        matrix, words = self.mdev.shadow, self.driver.probed_words
        content = stream.pack_v1(matrix.size(), ((apqn, words[apqn]) for apqn in matrix.apqns() if apqn in words))
        self._file = ReadFile(self.driver, self.mdev, bytearray(content))
        return self._file

    def resume(self) -> DataFile:
        """Open a buffer for as many queues as the target's own guest has."""
        size = stream.size_v1(self.mdev.shadow.size())
        self._file = WriteFile(self.driver, self.mdev, bytearray(size))
        return self._file

    def stop(self) -> None:
        """Disable the data file."""
        self.release()

    def release(self) -> None:
        """Disable the data file (``vfio_ap_disable_file``)."""
        if self._file is not None:
            self._file.disabled = True
            self._file = None


class File(DataFile):
    """A data file with its stream."""

    pins = False

    def __init__(self, driver: VfioAp, mdev: Mdev, content: bytearray) -> None:
        super().__init__(driver, mdev)
        self.content = content
        self.disabled = False

    def check_enabled(self) -> None:
        """Refuse what the kernel would stumble over: it looks up the mdev of a disabled file, which is NULL."""
        if self.disabled:
            self.driver.hazard(f"{self.mdev.uuid}: a data file was used after its state had ended")
            raise SysfsError(errno.ENODEV)


class ReadFile(File):
    """What STOP to STOP_COPY opened."""

    def read(self, length: int) -> Op[bytes]:
        """Read on (``vfio_ap_save_read``)."""

        def copy() -> bytes:
            self.check_enabled()
            data = bytes(self.content[self.position : self.position + length])
            self.position += len(data)
            return data

        return self.driver.locked(at_once(copy))


class WriteFile(File):
    """What STOP to RESUMING opened."""

    def write(self, data: bytes) -> Op[int]:
        """Store and compare (``vfio_ap_resume_write``)."""

        def store() -> int:
            self.check_enabled()
            end = self.position + len(data)
            if end > len(self.content):
                sizes = f"({end}) larger than target's ({len(self.content)})"
                self._complain(f"migration failed: source guest's AP config size {sizes}")
                raise SysfsError(errno.EIO)
            self.content[self.position : end] = data
            self.position = end
            if end >= stream.NUMBER_END_V1:
                self._check_number()
                if end == len(self.content):
                    self._check_queues()
            return len(data)

        return self.driver.locked(at_once(store))

    def _check_number(self) -> None:
        theirs, ours = stream.number_v1(self.content), self.mdev.shadow.size()
        if theirs != ours:
            numbers = f"source ({theirs}) and target ({ours})"
            self._complain(f"migration failed: number of queues on {numbers} guests differ")
            raise SysfsError(errno.ENODEV if ours > theirs else errno.E2BIG)

    def _check_queues(self) -> None:
        """Every APQN must be in the target's shadow; then the first incompatible queue ends it with EFAULT."""
        shadow, absent = self.mdev.shadow, False
        queues = [*stream.queues_v1(self.content)]
        for apqn, _ in queues:
            if not (has(shadow.adapters, apqn >> 8) and has(shadow.domains, apqn & 255)):
                self._complain(f"migration failed: queue {queue_name(apqn)} not assigned to guest matrix")
                absent = True
        if absent:
            raise SysfsError(errno.ENODEV)
        for apqn, source in queues:
            target = self.driver.probed_words[apqn]
            if not hwinfo.compatible_v1(source, target):
                for line in hwinfo.complaints_v1(apqn, source, target):
                    self._complain(line)
                raise SysfsError(errno.EFAULT)

    def _complain(self, text: str) -> None:
        self.driver.log.write(ERROR, f"vfio_ap_mdev {self.mdev.uuid}: {text}")
