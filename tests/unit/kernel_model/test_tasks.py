"""Clock, tasks and locks of the model."""

from __future__ import annotations

import pytest

from vfio_ap_sim.kernel.errors import Interrupted, SysfsError
from vfio_ap_sim.kernel.tasks import Mutex, Op, Scheduler, at_once, holding


def slow(clock: Scheduler, seen: list[str], name: str, microseconds: int) -> Op[str]:
    seen.append(f"{name} begins")
    yield clock.sleep(microseconds)
    seen.append(f"{name} ends at {clock.now}")
    return name


def test_time_passes_only_when_told() -> None:
    clock, seen = Scheduler(), list[str]()
    long = clock.spawn(slow(clock, seen, "long", 30))
    short = clock.spawn(slow(clock, seen, "short", 10))
    assert clock.next_due == 10
    clock.advance_to(29)
    assert (long.done, short.done, clock.now) == (False, True, 29)
    clock.advance_to(100)
    assert long.result() == "long"
    assert seen == ["long begins", "short begins", "short ends at 10", "long ends at 30"]


def test_a_mutex_is_fair_and_freed_by_errors() -> None:
    clock, mutex, seen = Scheduler(), Mutex(), list[str]()

    def failing() -> Op[None]:
        yield clock.sleep(5)
        raise SysfsError(5)

    first = clock.spawn(holding(mutex, failing()))
    others = [clock.spawn(holding(mutex, slow(clock, seen, name, 10))) for name in "ab"]
    assert not seen
    clock.advance_to(30)
    with pytest.raises(SysfsError):
        first.result()
    assert all(task.done for task in others)
    assert seen == ["a begins", "a ends at 15", "b begins", "b ends at 25"]
    assert not mutex.held


def test_a_signal_ends_only_interruptible_waits() -> None:
    clock, mutex = Scheduler(), Mutex()
    clock.spawn(holding(mutex, slow(clock, [], "holder", 10)))
    stubborn = clock.spawn(holding(mutex, at_once(lambda: "got it")))
    polite = clock.spawn(holding(mutex, at_once(lambda: "never"), interruptible=True))
    stubborn.signal()
    polite.signal()
    assert not stubborn.done
    with pytest.raises(Interrupted):
        polite.result()
    clock.advance_to(10)
    assert stubborn.result() == "got it"


def test_done_is_told_once_it_is() -> None:
    clock, told = Scheduler(), list[int]()
    task = clock.spawn(slow(clock, [], "x", 10))
    task.on_done(lambda: told.append(clock.now))
    clock.advance_to(10)
    task.on_done(lambda: told.append(-1))
    assert told == [10, -1]
