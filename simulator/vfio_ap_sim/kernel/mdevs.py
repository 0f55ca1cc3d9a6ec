"""Life and death of mdevs: the mdev core, the VFIO core and vfio_ap's part in it (kernel-ap.md 3.1 and 3.7)."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from vfio_ap_sim.kernel.bitmap import kstrtoul
from vfio_ap_sim.kernel.errors import Interrupted, SysfsError
from vfio_ap_sim.kernel.feeds import INFO, NOTICE, WARNING, KernelLog, Uevents
from vfio_ap_sim.kernel.mdev import Mdev
from vfio_ap_sim.kernel.sessions import close_device
from vfio_ap_sim.kernel.tasks import Op, Scheduler, at_once
from vfio_ap_sim.kernel.vfio_ap import VfioAp

INSTANCES = 65536
"""Most mdevs there can be (V-3)."""
VFIO_MAJOR = 251
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_LENGTH = 36
_ASK_AGAIN_US = 10_000_000


class Mdevs:
    """The mdevs of the loaded driver, by UUID, those included that are being removed (V-35)."""

    def __init__(
        self,
        driver: VfioAp,
        clock: Scheduler,
        log: KernelLog,
        uevents: Uevents,
        limits: tuple[int, int],
    ) -> None:
        self.driver = driver
        self.by_uuid: dict[str, Mdev] = {}
        self._clock = clock
        self._log = log
        self._uevents = uevents
        self._limits = limits

    @property
    def available(self) -> int:
        """What ``available_instances`` shows."""
        return INSTANCES - len(self.by_uuid)

    def visible(self, uuid: str) -> Mdev | None:
        """Return an mdev that still has its attributes and links (V-33)."""
        mdev = self.by_uuid.get(uuid)
        return mdev if mdev and not mdev.leaving else None

    def write_create(self, text: str) -> Op[None]:
        """Store to ``create`` (V-4). What follows the 36 characters of the UUID is not looked at."""
        uuid = text[:_UUID_LENGTH].lower()
        if len(text) > _UUID_LENGTH + 1 or not _UUID.fullmatch(uuid):
            raise SysfsError(errno.EINVAL)
        if uuid in self.by_uuid:
            raise SysfsError(errno.EEXIST)
        if not self.available:
            raise SysfsError(errno.EUSERS)
        maximum = self._limits
        mdev = Mdev(
            uuid,
            group=_lowest_free(other.group for other in self.by_uuid.values()),
            cdev=_lowest_free(other.cdev for other in self.by_uuid.values()),
            max_adapter=maximum[0],
            max_domain=maximum[1],
        )
        self.by_uuid[uuid] = mdev
        self._uevents.send("add", mdev.path, "mdev")
        self._log.write(INFO, f"vfio_ap_mdev {uuid}: Adding to iommu group {mdev.group}")
        yield from self.driver.locked(at_once(lambda: self.driver.mdevs.insert(0, mdev)))
        self._send_group("add", mdev)
        self._send_cdev("add", mdev)
        self._uevents.send("bind", mdev.path, "mdev", {"DRIVER": "vfio_ap_mdev"})

    def write_remove(self, mdev: Mdev, text: str) -> Op[None]:
        """Store to ``remove`` of an mdev (V-31)."""
        try:
            number = kstrtoul(text)
        except SysfsError:
            raise SysfsError(errno.EINVAL) from None
        if number and not mdev.leaving:
            yield from self.remove(mdev)

    def remove(self, mdev: Mdev) -> Op[None]:
        """Remove an mdev; waits until no guest has it open (V-32, V-33)."""
        mdev.leaving = True
        self._send_cdev("remove", mdev)
        yield from self._await_release(mdev)
        self._send_group("remove", mdev)

        def forget() -> Op[None]:
            yield from self.driver.resetter.reset(self.driver.queues_of(mdev.assigned))
            self.driver.mdevs.remove(mdev)

        yield from self.driver.locked(forget())
        self._uevents.send("unbind", mdev.path, "mdev")
        self._log.write(INFO, f"vfio_ap_mdev {mdev.uuid}: Removing from iommu group {mdev.group}")
        self._uevents.send("remove", mdev.path, "mdev")
        del self.by_uuid[mdev.uuid]

    def _await_release(self, mdev: Mdev) -> Op[None]:
        """Ask the user for the device every ten seconds, until it is closed (``vfio_unregister_group_dev``).

        The first signal to the writer is logged; after it the wait cannot be interrupted any more (V-34).
        """
        task, asked, interrupted = self._clock.current, 0, False
        while mdev.held:
            if self.driver.profile.request_on_remove:
                self._ask(mdev, asked)
                asked += 1
            wait = self._clock.sleep(_ASK_AGAIN_US, interruptible=not interrupted)
            mdev.released.append(wait)
            try:
                yield wait
            except Interrupted:
                interrupted = True
                assert task is not None
                self._log.write(
                    WARNING,
                    f'vfio_ap_mdev {mdev.uuid}: Device is currently in use, task "{task.comm}" ({task.pid}) '
                    "blocked until device is released",
                )

    def _ask(self, mdev: Mdev, count: int) -> None:
        """Signal the request to the user (``vfio_ap_mdev_request``); who closed the device listens no more."""
        guest = mdev.guest
        if guest is None:
            if not count:
                text = f"vfio_ap_mdev {mdev.uuid}: No device request registered, blocked until released by user"
                self._log.write(NOTICE, text)
            return
        if self.driver.profile.clear_on_remove:
            guest.set_masks(0, 0, 0, tell=self.driver.profile.config_event)
        if count % 10 == 0:
            text = f"vfio_ap_mdev {mdev.uuid}: Relaying device request to user (#{count})"
            self._log.write_limited("vfio_ap_mdev_request", NOTICE, text)
        guest.asked += 1
        if guest.obeys:
            self._clock.spawn(close_device(self.driver, mdev, guest), comm="qemu", pid=guest.pid)

    def _send_group(self, action: str, mdev: Mdev) -> None:
        node = {"MAJOR": str(VFIO_MAJOR), "MINOR": str(mdev.group), "DEVNAME": f"vfio/{mdev.group}"}
        self._uevents.send(action, f"/devices/virtual/vfio/{mdev.group}", "vfio", node)

    def _send_cdev(self, action: str, mdev: Mdev) -> None:
        self._uevents.send(action, f"{mdev.path}/vfio-dev/vfio{mdev.cdev}", "vfio-dev")


def _lowest_free(taken: Iterable[int]) -> int:
    """Return the lowest number that is free (``ida_alloc``)."""
    used = set(taken)
    return next(number for number in range(len(used) + 1) if number not in used)
