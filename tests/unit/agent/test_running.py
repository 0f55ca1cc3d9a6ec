"""Changes to a device while a guest has it: what is asked for is done, in writes that take nothing else away."""

import pytest

from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn

from .support import A, B, Node, by_uuid, matrix, wanted


@pytest.fixture(params=["K7.1", "K6.12", "K6.1"])
def node(request, tmp_path):
    return Node(tmp_path, request.param)


def guest(node, name="vm"):
    """Return the queues and control domains in the guest's CRYCB."""
    found = node.kernel.guests[name]
    queues = {Apqn(a, d) for a in IdSet(found.adapters) for d in IdSet(found.domains)}
    return queues, IdSet(found.control)


async def running(node, *mdev):
    await node.apply(wanted(A, *mdev))
    node.control.start_guest("vm", A)
    seen = []
    node.witness.after = lambda op: seen.append((op.path.rpartition("/")[2], *guest(node)))
    return seen


async def test_queues_are_plugged_into_a_running_guest_and_nothing_is_lost_on_the_way(node):
    seen = await running(node, "5", "4")
    report = by_uuid(await node.apply(wanted(A, "5-6", "4,6")))[A]
    assert (report.state, report.in_use) == ("Ready", True)
    assert guest(node)[0] == set(matrix("5-6", "4,6"))
    assert all(Apqn(5, 4) in queues for _, queues, _ in seen)


async def test_queues_that_are_to_go_go_and_no_others(node):
    seen = await running(node, "5-6", "4,6")
    report = by_uuid(await node.apply(wanted(A, "5-6", "4")))[A]
    assert report.state == "Ready"
    stays = set(matrix("5-6", "4"))
    assert guest(node)[0] == stays
    assert all(stays <= queues for _, queues, _ in seen)


async def test_an_adapter_is_swapped_for_another_without_passing_through_nothing(tmp_path):
    """One ap_config write (V-22): no reader sees the device empty."""
    node = Node(tmp_path)
    seen = await running(node, "5", "4,6")
    assert by_uuid(await node.apply(wanted(A, "6", "4,6")))[A].state == "Ready"
    assert [file for file, _, _ in seen if file not in ("apmask", "aqmask")] == ["ap_config"]
    assert guest(node)[0] == set(matrix("6", "4,6"))


async def test_without_ap_config_a_swap_never_holds_what_was_not_asked_for(tmp_path):
    node = Node(tmp_path, "K6.1")
    seen = await running(node, "5", "4,6")
    assert by_uuid(await node.apply(wanted(A, "6", "6,171")))[A].state == "Ready"
    assert guest(node)[0] == set(matrix("6", "6,171"))
    allowed = set(matrix("5", "4,6")) | set(matrix("6", "6,171"))
    assert all(queues <= allowed for _, queues, _ in seen)
    assert node.kernel.hazards == []


async def test_control_domains_come_and_go_in_a_running_guest(node):
    await running(node, "5", "4", "4")
    assert guest(node)[1] == IdSet.of(4)
    assert by_uuid(await node.apply(wanted(A, "5", "4", "6")))[A].state == "Ready"
    assert guest(node) == (set(matrix("5", "4")), IdSet.of(6))


async def test_a_control_domain_may_be_in_two_devices_and_one_that_is_not_there_is_ready_for(node):
    """No check but the maximum is made for them (V-18)."""
    outcome = await node.apply(wanted(A, "5", "4", "4,6,17"), wanted(B, "6", "6", "4,6"))
    assert {report.state for report in outcome.reports} == {"Ready"}
    assert outcome.view.mdevs[A].matrix.control_domains == IdSet.parse("4,6,17")
    assert outcome.view.mdevs[A].guest.control_domains == IdSet.parse("4,6")


async def test_an_adapter_held_in_advance_reaches_the_running_guest_when_the_machine_gives_it(node):
    await running(node, "5,9", "4")
    assert guest(node)[0] == {Apqn(5, 4)}
    at = len(node.witness.writes)
    node.control.plug(9, "CEX8C")
    report = by_uuid(await node.apply(wanted(A, "5,9", "4")))[A]
    assert (report.state, report.note) == ("Ready", None)
    assert guest(node)[0] == {Apqn(5, 4), Apqn(9, 4)}
    assert node.witness.writes[at:] == []


async def test_an_adapter_that_the_machine_takes_away_is_named_and_nothing_is_written(node):
    await running(node, "5-6", "4")
    at = len(node.witness.writes)
    node.control.unplug(6)
    report = by_uuid(await node.apply(wanted(A, "5-6", "4")))[A]
    assert (report.state, report.note.reason) == ("Ready", "OverProvisioned")
    assert guest(node)[0] == {Apqn(5, 4)}
    assert node.witness.writes[at:] == []
