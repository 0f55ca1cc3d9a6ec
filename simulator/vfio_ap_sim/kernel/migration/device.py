"""The migration state of one open device, and its data files: what all versions of the series share."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn

from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.migration.states import State, next_state
from vfio_ap_sim.kernel.tasks import Op, at_once

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.mdev import Mdev
    from vfio_ap_sim.kernel.vfio_ap import VfioAp


class DataFile:
    """The descriptor that a change to STOP_COPY or RESUMING returns: a stream without positions."""

    def __init__(self, driver: VfioAp, mdev: Mdev) -> None:
        self.driver = driver
        self.mdev = mdev
        self.position = 0
        self._open = True
        if self.pins:
            mdev.pins += 1

    pins = True
    """Whether the device cannot go while this file is open."""

    def read(self, length: int) -> Op[bytes]:
        """Read at most ``length`` bytes; none at the end. EBADF for the file that is written."""
        raise SysfsError(errno.EBADF)

    def write(self, data: bytes) -> Op[int]:
        """Write once. EBADF for the file that is read."""
        raise SysfsError(errno.EBADF)

    def seek(self) -> None:
        """Refuse pread, pwrite and lseek."""
        raise SysfsError(errno.ESPIPE)

    def close(self) -> None:
        """Close the descriptor; a writer of ``remove`` may wait for it."""
        if self._open and self.pins:
            self.mdev.pins -= 1
            self.mdev.wake()
        self._open = False


class MigrationDevice(ABC):
    """Exists from open to close of the device (``struct vfio_ap_migration_data``)."""

    def __init__(self, driver: VfioAp, mdev: Mdev) -> None:
        self.driver = driver
        self.mdev = mdev
        self.state = State.RUNNING

    def set_state(self, wanted: int) -> Op[DataFile | None]:
        """Walk to a state; returns the data file that its last arc opened.

        Raises EINVAL for a state that cannot be reached; then nothing changes.
        """

        def walk() -> DataFile | None:
            if self.driver.hardware.secure_guest:
                self.refuse_secure_guest()
            file = None
            while self.state is not wanted:
                coming = next_state(self.state, wanted)
                file = self._enter(coming)
                self.state = coming
            return file

        return self.driver.locked(at_once(walk))

    def _enter(self, coming: State) -> DataFile | None:
        if coming is State.STOP_COPY:
            return self.save()
        if coming is State.RESUMING:
            return self.resume()
        if coming is State.STOP:
            self.stop()
        return None

    def reset(self) -> None:
        """Go back to RUNNING after VFIO_DEVICE_RESET; data files are cut off (L-6)."""
        self.release()
        self.state = State.RUNNING

    def data_size(self) -> int:
        """Return what VFIO_DEVICE_FEATURE_MIG_DATA_SIZE says. EOPNOTSUPP where it is not offered."""
        raise SysfsError(errno.EOPNOTSUPP)

    def current_state(self) -> State:
        """Return what VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE says. EOPNOTSUPP where it is not offered."""
        raise SysfsError(errno.EOPNOTSUPP)

    @abstractmethod
    def refuse_secure_guest(self) -> NoReturn:
        """Raise what a change of state in a Secure Execution guest gets."""

    @abstractmethod
    def save(self) -> DataFile:
        """STOP to STOP_COPY."""

    @abstractmethod
    def resume(self) -> DataFile:
        """STOP to RESUMING."""

    @abstractmethod
    def stop(self) -> None:
        """Back to STOP."""

    @abstractmethod
    def release(self) -> None:
        """Forget data files and streams: the device is closed or reset."""
