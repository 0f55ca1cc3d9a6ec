"""What is kept of the kernel log: lines of devices that move, of the latest move, and not too many."""

from vfio_ap_agent.devicelog import DeviceLog
from vfio_ap_api.apnode import LOGGED_DEVICES, LOGGED_LENGTH, LOGGED_LINES

from .support import A, B


def line(uuid, text="Queue 05.0004 not available"):
    return f"vfio_ap_mdev {uuid}: {text}"


def test_lines_of_frozen_devices_are_kept_once_and_others_are_not():
    log = DeviceLog()
    assert not log.hear(line(A))
    log.freeze({A})
    assert log.hear(line(A))
    assert not log.hear(line(A))
    assert not log.hear(line(B))
    assert not log.hear("vfio_ap: of nobody")
    assert log.lines == {A: [line(A)]}


def test_what_was_said_stays_when_the_move_is_over_and_goes_when_the_next_one_begins():
    log = DeviceLog()
    log.freeze({A, B})
    log.hear(line(A))
    log.hear(line(B))
    log.freeze({A})  # B's is over
    log.freeze({A, B})
    assert log.lines == {A: [line(A)]}


def test_the_first_lines_and_the_latest_devices_are_kept():
    log = DeviceLog()
    log.freeze({A})
    for number in range(LOGGED_LINES + 3):
        log.hear(line(A, f"{number} " + "x" * 300))
    assert len(log.lines[A]) == LOGGED_LINES
    assert [len(said) for said in log.lines[A]] == [LOGGED_LENGTH] * LOGGED_LINES
    assert ": 0 x" in log.lines[A][0]
    others = [f"{A[:-2]}{number:02}" for number in range(LOGGED_DEVICES)]
    for uuid in others:
        log.freeze({uuid})
        log.hear(line(uuid))
    assert list(log.lines) == others
