"""Hosts in driver_override mode, on the kernel model: single queues, never a mask, and all of it given back."""

import pytest

from vfio_ap.matrix import Apqn
from vfio_ap_agent import paths

from .support import FOREIGN, A, B, Killed, Node, by_uuid, matrix, wanted


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, prefer="override")


def overrides(node):
    texts = {str(q): node.kernel.read(f"{paths.queue(q)}/driver_override") for q in matrix("4-6", "4,6,171")}
    return {queue: text.strip() for queue, text in texts.items() if text.strip()}


def with_host(outcome):
    return {str(apqn) for apqn, queue in outcome.view.queues.items() if queue.driver == "cex4queue"}


async def test_only_the_wanted_queues_leave_and_masks_stay_as_they_are(node):
    outcome = await node.apply(wanted(A, "5", "4,6"), reserved=[matrix("5", "171"), matrix("4,6", "4,6")])
    report = by_uuid(outcome)[A]
    assert (report.state, report.guest) == ("Ready", matrix("5", "4,6"))
    assert overrides(node) == {"05.0004": "vfio_ap", "05.0006": "vfio_ap"}
    assert node.masks() == ("", "")
    assert len(with_host(outcome)) == 7
    assert outcome.view.kernel.queue_control == "DriverOverride"
    before = len(node.witness.writes)
    await node.apply(wanted(A, "5", "4,6"), reserved=[matrix("5", "171"), matrix("4,6", "4,6")])
    assert node.witness.writes[before:] == []


async def test_everything_is_given_back(node):
    await node.apply(wanted(A, "5", "4,6"), wanted(B, "4,6", "171"))
    outcome = await node.apply()
    assert outcome.reports == ()
    assert overrides(node) == {}
    assert len(with_host(outcome)) == 9
    node.kernel.write(f"{paths.BUS}/apmask", "-5")  # masks can be used again (K-15)


async def test_a_host_with_an_override_is_in_that_mode_whatever_is_preferred(tmp_path):
    node = Node(tmp_path, prefer="masks")
    node.kernel.write(f"{paths.queue(Apqn(6, 4))}/driver_override", "vfio_ap")
    outcome = await node.apply(wanted(A, "5", "4"))
    assert by_uuid(outcome)[A].state == "Ready"
    assert node.masks() == ("", "")
    await node.apply()
    assert overrides(node) == {"06.0004": "vfio_ap"}, "what others wrote is not ours to clear"


async def test_a_host_with_masks_stays_with_masks(node):
    node.kernel.write(f"{paths.BUS}/apmask", "-6")
    outcome = await node.apply(wanted(A, "5", "4"))
    assert by_uuid(outcome)[A].state == "Ready"
    assert (outcome.view.kernel.queue_control, overrides(node)) == ("Masks", {})


async def test_nothing_can_be_held_in_advance(node):
    report = by_uuid(await node.apply(wanted(A, "5,9", "4"), wanted(B, "6", "4")))
    assert (report[A].note.reason, report[A].note.subject) == ("QueueAbsent", "09.0004")
    assert "cannot hold a queue in advance" in report[A].note.message
    assert report[B].state == "Ready"


async def test_a_kernel_without_overrides_is_told_apart_before_anything_is_written(tmp_path):
    node = Node(tmp_path, "K6.12", prefer="override")
    report = by_uuid(await node.apply(wanted(A, "5", "4")))[A]
    assert (report.note.reason, node.witness.writes) == ("QueueControlUnknown", [])


async def test_a_queue_that_a_foreign_device_took_meanwhile_is_not_unbound(node):
    """The kernel would take it from a guest without a word (V-25)."""
    await node.apply(wanted(A, "5", "4"))

    def take(op):
        if op.path.endswith("vfio_ap/unbind"):
            raise AssertionError("unbound")
        if op.path.endswith("/remove"):
            node.witness.after = lambda op: (setattr(node.witness, "after", lambda op: None), seize())

    def seize():
        node.foreign(adapters="5", domains="4")
        node.control.start_guest("vm", FOREIGN)

    node.witness.before = take
    outcome = await node.apply()
    assert [refusal.reason for _, refusal in outcome.failures] == ["QueueTaken"]
    assert overrides(node) == {"05.0004": "vfio_ap"}
    assert node.kernel.guests["vm"].has_device


async def test_an_override_that_others_cleared_or_a_new_card_lost_is_written_again(node):
    await node.apply(wanted(A, "5", "4"))
    node.kernel.write(f"{paths.queue(Apqn(5, 4))}/driver_override", "")
    assert by_uuid(await node.apply(wanted(A, "5", "4")))[A].state == "Ready"
    assert overrides(node) == {"05.0004": "vfio_ap"}
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    node.kernel.write(f"{paths.queue(Apqn(5, 4))}/driver_override", "")
    node.kernel.write(f"{paths.BUS}/drivers_probe", "05.0004")
    assert by_uuid(await node.apply(wanted(A, "5", "4")))[A].state == "Ready"


async def test_keys_are_sampled_before_their_queues_leave(node):
    await node.apply(wanted(A, "5", "4,6"))
    assert all("AES CUR" in node.samples.queues[apqn].keys for apqn in (Apqn(5, 4), Apqn(5, 6)))


@pytest.mark.parametrize("when", ["kill_before", "kill_after"])
async def test_killed_at_any_write_nothing_of_ours_is_forgotten(tmp_path, when):
    first = (wanted(A, "5", "4,6"), wanted(B, "6", "171"))
    second = (wanted(A, "4", "4"), wanted(B, "5-6", "171", "6"))
    whole = Node(tmp_path / "whole", prefer="override")
    for step in (first, second, ()):
        await whole.apply(*step)
    for number in range(len(whole.witness.writes) + 1):
        node = Node(tmp_path / f"{number}", prefer="override")
        setattr(node.witness, when, number)
        for step in (first, second, ()):
            try:
                outcome = await node.apply(*step)
            except Killed:
                setattr(node.witness, when, None)
                node.start_agent()
                outcome = await node.apply(*step)
            assert {report.state for report in outcome.reports} <= {"Ready"}, number
        assert (outcome.reports, overrides(node), len(with_host(outcome))) == ((), {}, 9), number


async def test_a_handover_back_that_was_cut_short_is_finished_although_no_override_is_left_to_see(tmp_path):
    """Without its override the host looks like one of masks; our record says that a queue is on its way."""
    node = Node(tmp_path, prefer="override")
    await node.apply(wanted(A, "5", "4"))
    at = len(node.witness.writes)
    node.witness.kill_after = at + 3  # remove, unbind, driver_override cleared
    with pytest.raises(Killed):
        await node.apply()
    assert [line.split()[0] for line in node.witness.writes[at:]] == ["remove", "unbind", "driver_override"]
    node.witness.kill_after = None
    node.prefer = "auto"
    node.start_agent()
    await node.apply()
    assert node.kernel.bus.cards[5].domains[4].driver == "cex4queue"
    assert node.applier.ours.overrides == frozenset()
