import re
import threading

import pytest

from vfio_ap_sim.controlplane.progress import HEARTBEAT, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (75, "1m15s"), (3700, "61m40s")]
)
def test_durations_read_as_people_write_them(seconds, text):
    assert duration(seconds) == text


def test_a_long_step_is_heard_of_while_it_runs():
    lines: list[str] = []
    third = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            third.set()

    with Progress(say, heartbeat=0.01).step("building x"):
        assert third.wait(10)
    assert lines[0] == "building x …"
    assert re.fullmatch(r"building x … \d+s", lines[1])
    assert re.fullmatch(r"building x: done in \d+s", lines[-1])
    assert all(line.isprintable() for line in lines)


def test_a_step_that_fails_does_not_say_done(progress, said):
    with pytest.raises(ValueError, match="no"), progress.step("building x"):
        raise ValueError("no")
    assert said[-1].startswith("building x: gave up after")


def test_the_heartbeat_is_often_enough_for_people():
    assert HEARTBEAT <= 15
