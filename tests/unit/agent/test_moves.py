"""While a move is in flight: what is frozen stays as it is, the rest is done; and the first series' switch."""

import errno
from dataclasses import replace

import pytest

from vfio_ap.host.ops import Failed, Write
from vfio_ap.matrix import Apqn
from vfio_ap_agent import paths
from vfio_ap_agent.desired import parse

from .support import A, B, C, Node, by_uuid, matrix, wanted


def frozen(*arguments, **more):
    return replace(wanted(*arguments, **more), frozen=True)


def migratable(*arguments):
    return replace(wanted(*arguments), migratable=True)


@pytest.fixture(params=["masks", "override"])
def node(request, tmp_path):
    return Node(tmp_path, prefer=request.param)


async def test_a_frozen_device_is_not_changed_and_others_are_made(node):
    await node.apply(wanted(A, "5", "4,6"))
    at = len(node.witness.writes)
    outcome = await node.apply(frozen(A, "5", "4"), wanted(B, "6", "171"))
    assert node.config(A) == matrix("5", "4,6")
    assert by_uuid(outcome)[B].state == "Ready"
    assert (by_uuid(outcome)[A].state, by_uuid(outcome)[A].note.reason) == ("Pending", "Frozen")
    assert not any(A in line for line in node.witness.writes[at:])
    outcome = await node.apply(wanted(A, "5", "4"), wanted(B, "6", "171"))
    assert by_uuid(outcome)[A].state == "Ready"


async def test_what_the_kernel_or_others_changed_in_a_move_is_not_repaired(node):
    """A live migration writes the source's guest matrix over the target's configuration (L-11)."""
    await node.apply(wanted(A, "5", "4,6"))
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "6")
    at = len(node.witness.writes)
    outcome = await node.apply(frozen(A, "5", "4,6"))
    assert node.witness.writes[at:] == []
    assert by_uuid(outcome)[A].note.reason == "Frozen"
    assert by_uuid(await node.apply(wanted(A, "5", "4,6")))[A].state == "Ready"


async def test_a_frozen_device_is_not_made_adopted_or_filtered_anew(node):
    await node.apply(wanted(A, "5", "4,6"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    node.foreign(C)
    at = len(node.witness.writes)
    await node.apply(frozen(A, "5", "6"), frozen(B, "6", "171"), frozen(C, "4", "4", adopt=True))
    about = [line for line in node.witness.writes[at:] if line.startswith(("create", "ap_config", "remove"))]
    assert about == []
    assert node.kernel.read(f"{paths.mdev(A)}/guest_matrix") == ".0006\n"
    assert set(node.applier.ours.mdevs) == {A}


async def test_an_equal_device_of_somebody_else_is_not_adopted_while_frozen(tmp_path):
    node = Node(tmp_path, prefer="masks")
    node.kernel.write(f"{paths.BUS}/apmask", "-4")
    node.foreign(C, adapters="4", domains="6")
    await node.apply(frozen(C, "4", "6", adopt=True))
    assert C not in node.applier.ours.mdevs
    assert by_uuid(await node.apply(wanted(C, "4", "6", adopt=True)))[C].state == "Ready"
    assert C in node.applier.ours.mdevs


async def test_no_queue_of_a_frozen_device_changes_hands(node):
    """Not the queues it holds, not those it is to hold, neither out of the host nor back."""
    await node.apply(wanted(A, "5", "4"), wanted(B, "6", "4"))
    drivers = drivers_of(node, "5", "4,6")
    wish = [frozen(A, "5", "6")]
    for others in ([wanted(B, "4-5", "171")], [wanted(B, "5", "6")], [], [wanted(B, "4-6", "6")]):
        await node.apply(*wish, *others)
        assert drivers_of(node, "5", "4,6") == drivers
    assert node.config(A) == matrix("5", "4")


def drivers_of(node, adapters, domains):
    cards = node.kernel.bus.cards
    return {q: cards[q.adapter].domains[q.domain].driver for q in matrix(adapters, domains)}


async def test_a_mask_edit_that_would_take_a_frozen_queue_along_waits_and_says_why(tmp_path):
    """Both ways of releasing 05.0006 would take a queue along that the frozen device is to hold."""
    node = Node(tmp_path, prefer="masks")
    outcome = await node.apply(frozen(A, "5-6", "4"), frozen(B, "4", "6"), wanted(C, "5", "6"))
    assert (by_uuid(outcome)[C].state, by_uuid(outcome)[C].note.reason) == ("Pending", "Frozen")
    assert node.witness.writes == []
    outcome = await node.apply(wanted(A, "5-6", "4"), wanted(B, "4", "6"), wanted(C, "5", "6"))
    assert by_uuid(outcome)[C].state == "Ready"


async def test_no_mask_is_edited_while_a_frozen_queue_has_no_driver(tmp_path):
    """At any edit the kernel probes every queue whose driver is not what the masks say, and a probe resets it."""
    node = Node(tmp_path, prefer="masks")
    await node.apply(wanted(A, "5", "4"), wanted(C, "4", "171"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    at = len(node.witness.writes)
    outcome = await node.apply(frozen(A, "5", "4"), wanted(B, "6", "6"))
    assert (by_uuid(outcome)[B].state, by_uuid(outcome)[B].note.reason) == ("Pending", "Frozen")
    assert "05.0004" in str(by_uuid(outcome)[B].note)
    assert not any(line.startswith(("apmask", "aqmask")) for line in node.witness.writes[at:]), "nor given back"
    assert drivers_of(node, "5", "4") == {Apqn(5, 4): None}
    assert by_uuid(await node.apply(wanted(A, "5", "4"), wanted(B, "6", "6")))[B].state == "Ready"


async def test_a_mask_edit_goes_the_way_that_leaves_frozen_queues_alone(tmp_path):
    node = Node(tmp_path, prefer="masks")
    await node.apply(frozen(A, "5", "4"), wanted(B, "5", "6"))
    assert node.masks() == ("", "6")


async def test_bits_of_frozen_queues_are_not_given_back(tmp_path):
    node = Node(tmp_path, prefer="masks")
    await node.apply(wanted(A, "5", "4"))
    node.kernel.write(f"{paths.mdev(A)}/unassign_adapter", "5")
    await node.apply(frozen(A, "5", "4"))
    assert node.masks() == ("5", "")


async def test_the_switch_of_the_first_series_is_set_in_a_move_and_cleared_after_it(tmp_path):
    node = Node(tmp_path, "MIGv1")
    outcome = await node.apply(wanted(A, "5", "4"))
    assert by_uuid(outcome)[A].migratable is False
    outcome = await node.apply(replace(frozen(A, "5", "4"), migratable=True))
    assert by_uuid(outcome)[A].migratable is True
    assert node.kernel.read(f"{paths.mdev(A)}/migratable") == "1\n"
    at = len(node.witness.writes)
    await node.apply(replace(frozen(A, "5", "4"), migratable=True))
    assert node.witness.writes[at:] == []
    outcome = await node.apply(frozen(A, "5", "4"))
    assert (by_uuid(outcome)[A].migratable, node.witness.writes[at:]) == (False, ["migratable 0"])


async def test_a_device_that_does_not_hold_what_is_wanted_is_not_let_go(tmp_path):
    node = Node(tmp_path, "MIGv1")
    await node.apply(wanted(A, "5", "4"))
    outcome = await node.apply(replace(frozen(A, "5", "4,6"), migratable=True))
    assert by_uuid(outcome)[A].migratable is False


async def test_kernels_without_the_switch_are_asked_for_nothing(tmp_path):
    for number, profile in enumerate(("K7.1", "K6.1", "MIGv4PLUS")):
        node = Node(tmp_path / str(number), profile)
        outcome = await node.apply(migratable(A, "5", "4"))
        assert (by_uuid(outcome)[A].state, by_uuid(outcome)[A].migratable) == ("Ready", None)


@pytest.mark.parametrize("number", [errno.EBUSY])
async def test_a_switch_that_is_busy_is_said_and_tried_again(tmp_path, number):
    node = Node(tmp_path, "MIGv1")
    await node.apply(migratable(A, "5", "4"))
    run = node.witness.run

    async def busy(ops, *, deadline):
        if isinstance(ops[0], Write) and ops[0].path.endswith("/migratable"):
            return [Failed(number)]
        return await run(ops, deadline=deadline)

    node.witness.run = busy
    outcome = await node.apply(wanted(A, "5", "4"))
    report = by_uuid(outcome)[A]
    assert (report.state, report.migratable, report.note.reason) == ("Ready", True, "MigratableBusy")
    node.witness.run = run
    report = by_uuid(await node.apply(wanted(A, "5", "4")))[A]
    assert (report.migratable, report.note) == (False, None)


def test_the_spec_says_both():
    entry = {"uuid": A, "matrix": "m", "adapters": "5", "domains": "4", "frozen": True, "migratable": True}
    (mdev,) = parse({"mdevs": [entry]}).wish.mdevs
    assert (mdev.frozen, mdev.migratable) == (True, True)


async def test_a_frozen_device_that_left_the_wish_goes_as_any_other(node):
    await node.apply(wanted(A, "5", "4"))
    await node.apply(frozen(A, "5", "4"))
    await node.apply()
    assert A not in node.kernel.mdevs.by_uuid
    assert node.kernel.bus.cards[5].domains[4].driver == "cex4queue"
