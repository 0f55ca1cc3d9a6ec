"""Resets that take time or fail, and what the host's own state machine makes of a queue that does not answer."""

from __future__ import annotations

import errno

import pytest

from vfio_ap_sim.kernel import SysfsError

from .conftest import BUS, MATRIX, A, Lpar, outcome


@pytest.fixture
def running(lpar: Lpar) -> Lpar:
    """A = {5 x 4,6} in a running guest."""
    lpar.apmask("-5,-6")
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[4, 6])
    lpar.control.start_guest("vm", A)
    lpar.mark()
    return lpar


def reset_text(lpar: Lpar, queue: str) -> str:
    return lpar.read(f"{BUS}/devices/{queue}/reset").strip()


def test_v38_a_queue_whose_reset_fails_is_kept_from_guests_until_one_succeeds(running: Lpar) -> None:
    running.control.answer(5, 4, 6)
    with pytest.raises(SysfsError) as refused:
        running.control.reset_guest("vm").result()
    assert refused.value.errno == errno.EIO
    assert running.log == ["PQAP/ZAPQ for 05.0004 failed with invalid rc=6"]
    running.assign(A, adapters=[6])
    assert running.guest_matrix(A) == ["06.0004", "06.0006"], "the next filtering drops its adapter"
    running.control.answer(5, 4, None)
    running.control.reset_guest("vm").result()
    running.mdev(A, "unassign_adapter", 6)
    running.assign(A, adapters=[6])
    assert running.guest_matrix(A) == ["05.0004", "05.0006", "06.0004", "06.0006"]


def test_v38_a_new_probe_forgets_a_failed_reset(running: Lpar) -> None:
    running.control.answer(5, 4, 6)
    with pytest.raises(SysfsError):
        running.control.reset_guest("vm").result()
    running.write(f"{BUS}/drivers/vfio_ap/unbind", "05.0004")
    running.write(f"{BUS}/drivers/vfio_ap/bind", "05.0004")
    assert running.guest_matrix(A) == ["05.0004", "05.0006"]


def test_v38_a_busy_queue_is_waited_for_without_end(running: Lpar) -> None:
    running.control.answer(5, 4, 5)
    unplug = running.start(f"{MATRIX}/{A}/unassign_adapter", "5")
    running.kernel.advance(600)
    assert not unplug.done
    assert running.log[0] == "Waited 20ms for reset of queue 05.0004 (2, 0, 0)"
    running.control.answer(5, 4, None)
    running.kernel.advance(0.1)
    assert outcome(unplug) == "ok"


@pytest.mark.parametrize("stopped", ["deconfigure", "checkstop"])
def test_v30_a_reset_with_a_queue_that_does_not_work_is_an_error(running: Lpar, stopped: str) -> None:
    getattr(running.control, stopped)(5)
    with pytest.raises(SysfsError) as refused:
        running.control.reset_guest("vm").result()
    assert refused.value.errno == errno.EIO


def test_v39_each_queue_that_goes_back_to_the_host_takes_its_time() -> None:
    lpar = Lpar(knobs={"resetMs": 20})
    lpar.apmask("\n")
    began = lpar.kernel.seconds
    back = lpar.start(f"{BUS}/apmask", "+0-255")
    while not back.done:
        lpar.kernel.advance(0.001)
    assert 0.18 <= lpar.kernel.seconds - began < 0.2, "nine queues, one after the other"


def test_q3_a_reset_that_no_state_machine_carries_out_stays_in_progress(lpar: Lpar) -> None:
    lpar.write(f"{BUS}/devices/05.0004/reset", "1")
    assert reset_text(lpar, "05.0004") == "No Reset Timer set."
    lpar.apmask("-5")
    lpar.write(f"{BUS}/devices/05.0004/reset", "1")
    assert reset_text(lpar, "05.0004") == "Reset in progress.", "moved over from cex4queue: only flushed"
    lpar.apmask("+5")
    assert reset_text(lpar, "05.0004") == "No Reset Timer set."
    lpar.control.deconfigure(6)
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "06.0004")
    lpar.write(f"{BUS}/drivers/cex4queue/bind", "06.0004")
    assert reset_text(lpar, "06.0004") == "Reset in progress."
    lpar.control.configure(6)
    assert reset_text(lpar, "06.0004") == "No Reset Timer set."
    lpar.control.checkstop(6)
    assert reset_text(lpar, "06.0004") == "No Reset Timer set."
    lpar.scan()
    assert reset_text(lpar, "06.0004") == "Reset in progress.", "the second scan tries to bring it back"


def test_k12_a_scan_sees_one_change_of_a_queue_at_a_time(lpar: Lpar) -> None:
    lpar.control.checkstop(5)
    lpar.control.checkstop(5, on=False, scan=False)
    lpar.control.deconfigure(5, scan=False)
    lpar.mark()
    lpar.scan()
    assert [event.variables["DEVPATH"] for event in lpar.events(CONFIG="0")] == ["/devices/ap/card05"]
    lpar.scan()
    assert len(lpar.events(CONFIG="0")) == 4, "the queues follow with the next scan"


def test_c12_queues_go_online_in_the_order_in_which_the_host_got_them(lpar: Lpar) -> None:
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "05.0004")
    lpar.write(f"{BUS}/drivers/cex4queue/bind", "05.0004")
    lpar.mark()
    lpar.write(f"{BUS}/devices/card05/online", "0")
    names = [event.variables["DEVPATH"][-7:] for event in lpar.events(ONLINE="0")]
    assert names == ["/card05", "05.0006", "05.00ab", "05.0004"]
