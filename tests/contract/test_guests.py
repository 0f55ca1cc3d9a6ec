"""Behaviours 37 to 43: running guests, remove of an mdev in use, time."""

from __future__ import annotations

import errno

import pytest

from vfio_ap.host.ops import Data, Read
from vfio_ap_sim.kernel import ControlError, SysfsError

from .conftest import BUS, MATRIX, TYPE, A, B, Lpar, outcome


@pytest.fixture
def running(lpar: Lpar) -> Lpar:
    """A = {5 x 4,6} in a running, stubborn guest; B empty."""
    lpar.apmask("-5,-6")
    lpar.create(A)
    lpar.create(B)
    lpar.assign(A, adapters=[5], domains=[4, 6])
    assert lpar.control.start_guest("vm", A, obeys=False).done
    lpar.mark()
    return lpar


def crypto(lpar: Lpar) -> tuple[int, int]:
    """Adapters and domains that the guest sees."""
    guest = lpar.kernel.guests["vm"]
    return guest.adapters, guest.domains


def test_b37_status_in_use_and_one_mdev_per_guest(running: Lpar) -> None:
    assert running.status("05.0004") == "in use"
    assert running.status("05.00ab") == "unassigned"
    second = running.control.start_guest("vm", B)
    with pytest.raises(SysfsError) as refused:
        second.result()
    assert refused.value.errno == errno.EPERM


def test_b38_hot_unplug(running: Lpar) -> None:
    running.control.reset_time(60)
    unplug = running.start(f"{MATRIX}/{A}/unassign_adapter", "5")
    assert crypto(running) == (0, 1 << 4 | 1 << 6)
    assert not unplug.done, "the reset is awaited"
    running.kernel.advance(0.1)
    assert outcome(unplug) == "ok"
    assert running.resets("05.0004") == running.resets("05.0006") == 1
    assert running.kernel.guests["vm"].told == 1, "its QEMU was told of the change"


def test_b39_what_a_guest_has_cannot_be_taken(running: Lpar) -> None:
    running.assign(B, adapters=[5])
    assert running.mdev(B, "assign_domain", 6) == "EADDRINUSE"
    assert running.apmask("+5") == "EBUSY"


def test_b40_remove_in_use_blocks(running: Lpar) -> None:
    remove = running.start(f"{MATRIX}/{A}/remove", "1")
    assert not remove.done
    assert running.kernel.list(f"{MATRIX}/{A}") == ("iommu_group",)
    assert not running.has(f"/sys/bus/mdev/devices/{A}")
    assert not running.has(f"{TYPE}/devices/{A}")
    assert crypto(running) == (0, 0)
    assert running.log == [f"vfio_ap_mdev {A}: Relaying device request to user (#0)"]
    running.kernel.advance(101)
    assert running.log[1:] == [f"vfio_ap_mdev {A}: Relaying device request to user (#10)"]
    assert running.create(A) == "EEXIST"
    running.assign(B, adapters=[5])
    assert running.mdev(B, "assign_domain", 6) == "EADDRINUSE"
    assert running.status("05.0006") == "in use", "as the real kernel says it"
    running.control.stop_guest("vm")
    assert outcome(remove) == "ok"
    assert not running.has(f"{MATRIX}/{A}")
    assert running.mdev(B, "assign_domain", 6) == "ok"


def test_b40_an_obedient_guest_gives_the_device_back(running: Lpar) -> None:
    running.control.obey("vm")
    assert running.mdev(A, "remove", "1") == "ok"
    assert not running.has(f"{MATRIX}/{A}")
    assert not running.kernel.guests["vm"].has_device
    assert crypto(running) == (0, 0)


def test_b40_older_kernels_leave_the_masks_until_the_device_is_given_back() -> None:
    lpar = Lpar("K6.12")
    lpar.apmask("-5")
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[6])
    lpar.control.start_guest("vm", A, obeys=False)
    assert lpar.mdev(A, "remove", "1") == "blocks"
    assert crypto(lpar) == (1 << 5, 1 << 6)


def test_b41_a_signal_does_not_end_remove(running: Lpar) -> None:
    remove = running.start(f"{MATRIX}/{A}/remove", "1")
    running.mark()
    remove.signal()
    assert running.log[0] == (
        f'vfio_ap_mdev {A}: Device is currently in use, task "agent" (99) blocked until device is released'
    )
    running.mark()
    remove.signal()
    assert not running.log
    assert not remove.done
    running.control.stop_guest("vm")
    assert outcome(remove) == "ok"


def test_b42_guest_end_resets_everything(running: Lpar) -> None:
    assert running.control.stop_guest("vm").done
    assert running.resets("05.0004") == running.resets("05.0006") == 1
    assert running.status("05.0004") == "assigned"


def test_b43_readers_wait_for_resets(running: Lpar) -> None:
    running.control.reset_time(3000)
    began = running.kernel.seconds
    unassign = running.start(f"{MATRIX}/{A}/unassign_domain", "4")
    blocked = [
        running.kernel.submit(Read(path))
        for path in (
            f"{MATRIX}/{B}/matrix",
            f"{MATRIX}/{B}/guest_matrix",
            f"{MATRIX}/{B}/control_domains",
            f"{BUS}/devices/06.0004/status",
        )
    ]
    free = running.kernel.submit(Read(f"{MATRIX}/{B}/ap_config"))
    assert isinstance(free.result(), Data)
    running.kernel.advance(2.9)
    assert not any(task.done for task in [unassign, *blocked])
    while not unassign.done:
        running.kernel.advance(0.01)
    assert 3.0 <= running.kernel.seconds - began < 3.1
    assert all(task.done for task in blocked)
    assert running.log[0] == "Waited 20ms for reset of queue 05.0004 (2, 0, 0)"


def test_k11_mask_readers_wait_for_an_assignment_in_progress(running: Lpar) -> None:
    running.control.reset_time(100)
    swap = running.start(f"{MATRIX}/{A}/ap_config", "0,0,0")
    reader = running.kernel.submit(Read(f"{BUS}/apmask"))
    writer = running.start(f"{BUS}/apmask", "-4")
    assert outcome(swap) == outcome(reader) == "blocks"
    writer.signal()
    assert outcome(writer) == "EINTR", "waiting for the mask lock ends with a signal"
    running.kernel.advance(0.2)
    assert outcome(swap) == outcome(reader) == "ok"


def test_v36_the_group_is_seen_in_proc(running: Lpar) -> None:
    group = running.kernel.link(f"{MATRIX}/{A}/iommu_group").rpartition("/")[2]
    pid = running.kernel.guests["vm"].pid
    links = {running.kernel.link(f"/proc/{pid}/fd/{fd}") for fd in running.kernel.list(f"/proc/{pid}/fd")}
    assert f"/dev/vfio/{group}" in links
    running.control.stop_guest("vm")
    assert str(pid) not in running.kernel.list("/proc")


def test_v37_the_module_stays_while_a_guest_uses_it(running: Lpar) -> None:
    with pytest.raises(ControlError, match="in use"):
        running.control.unload()
    running.control.stop_guest("vm")
    running.control.unload()
    assert not running.has("/sys/devices/vfio_ap")
    assert running.driver("05.0004") is None


def test_v40_what_the_host_loses_the_guest_loses(running: Lpar) -> None:
    running.control.set_domains("4,0xab")
    assert crypto(running) == (1 << 5, 1 << 4)
    assert running.matrix(A) == ["05.0004", "05.0006"]
    running.control.set_domains("4,6,0xab")
    assert crypto(running) == (1 << 5, 1 << 4 | 1 << 6)


def test_v25_a_mask_write_waits_for_the_resets_it_causes(running: Lpar) -> None:
    running.control.stop_guest("vm")
    running.mdev(A, "remove", "1")
    running.control.reset_time(40)
    back = running.start(f"{BUS}/apmask", "+5")
    running.kernel.advance(0.1)
    assert not back.done, "three queues, one after the other"
    running.kernel.advance(0.05)
    assert outcome(back) == "ok"
    assert running.driver("05.00ab") == "cex4queue"
