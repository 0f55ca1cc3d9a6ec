"""Applying to the kernel model: few writes, none at rest, and the right thing after a crash at any of them."""

import asyncio

import pytest

from vfio_ap.host.ops import Write
from vfio_ap_agent import paths
from vfio_ap_agent.lock import config_lock

from .support import FOREIGN, A, B, Killed, Node, by_uuid, matrix, wanted, wish


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def test_two_writes_make_a_device_and_none_keep_it(node):
    node.kernel.write(f"{paths.BUS}/apmask", "-5")
    outcome = await node.apply(wanted(A, "5", "4,6", "4"))
    assert [line.split()[0] for line in node.witness.writes] == ["create", "ap_config"]
    report = by_uuid(outcome)[A]
    assert (report.state, report.guest, report.group) == ("Ready", matrix("5", "4,6", "4"), "0")
    await node.apply(wanted(A, "5", "4,6", "4"))
    assert len(node.witness.writes) == 2


async def test_the_host_is_as_before_when_the_wish_is_gone(node):
    await node.apply(wanted(A, "4-5", "4"), wanted(B, "6", "171"))
    assert node.masks() != ("", "")
    outcome = await node.apply()
    assert outcome.reports == ()
    assert node.masks() == ("", "")
    assert node.applier.ours.mdevs == {}


@pytest.mark.parametrize("when", ["kill_before", "kill_after"])
@pytest.mark.parametrize("profile", ["K7.1", "K6.1"])
async def test_killed_at_any_write_the_next_start_does_the_right_thing(tmp_path, when, profile):
    """From one wish to another that removes, moves, makes and gives back; then to none."""
    first = (wanted(A, "5", "4,6"), wanted(B, "6", "171"))
    second = (wanted(A, "4", "4"), wanted(B, "5-6", "171", "6"))
    whole = Node(tmp_path / "whole", profile)
    for step in (first, second, ()):
        await whole.apply(*step)
    for number in range(len(whole.witness.writes) + 1):
        node = Node(tmp_path / f"{number}", profile)
        setattr(node.witness, when, number)
        for step in (first, second):
            try:
                await node.apply(*step)
            except Killed:
                setattr(node.witness, when, None)
                node.start_agent()
                await node.apply(*step)
        reports = by_uuid(await node.apply(*second))
        assert {report.state for report in reports.values()} == {"Ready"}, number
        node.witness.kill_before = node.witness.kill_after = None
        assert (await node.apply()).reports == ()
        assert node.masks() == ("", ""), f"after a crash at write {number} bits of ours are lost"


async def test_a_device_in_use_is_neither_removed_nor_does_anything_hang(node):
    await node.apply(wanted(A, "5", "4"))
    node.control.start_guest("vm", A)
    outcome = await node.apply()
    report = by_uuid(outcome)[A]
    assert (report.state, report.note.reason, report.in_use) == ("Leaving", "InUse", True)
    assert "qemu-system-s39 (" in report.note.message
    assert not any("remove" in line for line in node.witness.writes)
    node.control.stop_guest("vm")
    assert (await node.apply()).reports == ()


async def test_a_guest_that_starts_between_plan_and_removal_is_noticed(node):
    """Its queues show it; and where its shadow is empty, its open group does (V-36)."""
    await node.apply(wanted(A, "5", "4"), wanted(B, "6", "4"))
    starts = iter(["vm"])

    def start_one(op):
        if op.path.endswith("/remove") and (name := next(starts, None)):
            node.control.start_guest(name, B if A in op.path else A)

    node.witness.before = start_one
    outcome = await node.apply()
    (left,) = outcome.reports
    assert (left.state, left.note.reason) == ("Leaving", "InUse")
    assert sum("remove" in line for line in node.witness.writes) == 1


async def test_a_removal_that_hangs_leaves_the_rest_of_the_wish_alone(node):
    """A guest that starts in the last moment and does not let go: the write never returns (V-33)."""
    await node.apply(wanted(A, "5", "4"))
    run = node.witness.run

    async def hang_on_remove(ops, *, deadline):
        if any(isinstance(op, Write) and op.path.endswith("/remove") for op in ops):
            node.control.start_guest("vm", A, obeys=False)
            return await run(ops, deadline=0.05)
        return await run(ops, deadline=deadline)

    node.witness.run = hang_on_remove
    outcome = await node.apply(wanted(B, "6", "6"))
    reports = by_uuid(outcome)
    assert reports[B].state == "Ready"
    assert (reports[A].state, reports[A].note.reason) == ("Leaving", "SysfsTimeout")
    assert by_uuid(await node.apply(wanted(B, "6", "6")))[A].note.reason == "Leaving"


async def test_foreign_devices_are_reported_and_left_alone(node):
    node.kernel.write(f"{paths.BUS}/apmask", "-6")
    node.foreign(adapters="6", domains="4,6")
    outcome = await node.apply(wanted(A, "5", "171"), wanted(B, "6", "4"))
    reports = by_uuid(outcome)
    assert reports[FOREIGN].state == "Foreign"
    assert (reports[B].state, reports[B].note.reason) == ("Failed", "QueueTaken")
    assert FOREIGN in reports[B].note.message
    assert reports[A].state == "Ready"
    await node.apply()
    assert node.config(FOREIGN) == matrix("6", "4,6")
    assert node.masks() == ("6", "")


async def test_a_device_that_was_lost_from_the_books_is_ours_by_the_other_record(node):
    await node.apply(wanted(A, "5", "4"))
    (node.folder / "state" / "ours.json").unlink()
    node.start_agent()
    assert by_uuid(await node.apply(wanted(A, "5", "4")))[A].note.reason == "ForeignMdev"
    outcome = await node.applier.apply(wish(wanted(A, "5", "4")), {A: None})
    assert by_uuid(outcome)[A].state == "Ready"


async def test_a_change_by_somebody_else_is_repaired_when_idle_and_reported_when_not(node):
    await node.apply(wanted(A, "5", "4,6"))
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "6")
    assert by_uuid(await node.apply(wanted(A, "5", "4,6")))[A].state == "Ready"
    assert node.config(A) == matrix("5", "4,6")
    node.control.start_guest("vm", A)
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "6")
    report = by_uuid(await node.apply(wanted(A, "5", "4,6")))[A]
    assert (report.state, report.note.reason) == ("Failed", "ForeignChange")
    assert node.config(A) == matrix("5", "4")


async def test_a_queue_without_driver_comes_to_vfio_ap_or_is_named(node):
    await node.apply(wanted(A, "5", "4,6"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    report = by_uuid(await node.apply(wanted(A, "5", "4,6")))[A]
    assert report.state == "Ready"
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    node.witness.run = blind_to_probes(node.witness.run)
    report = by_uuid(await node.apply(wanted(A, "5", "4,6")))[A]
    assert (report.state, report.note.reason, report.note.subject) == ("Incomplete", "Filtered", "05.0004")
    assert "05.0004 is with no driver" in report.note.message


def blind_to_probes(run):
    """Return a host on which nothing is bound by a probe, although every write succeeds (B-14)."""
    from vfio_ap.host.ops import Write, Written

    async def answer(ops, *, deadline):
        (first, *_) = ops
        if isinstance(first, Write) and first.path.endswith("drivers_probe"):
            return [Written(len(first.data))]
        return await run(ops, deadline=deadline)

    return answer


async def test_keys_are_sampled_before_their_queues_leave(node):
    outcome = await node.apply(wanted(A, "5", "4"))
    gone = [apqn for apqn, queue in outcome.view.queues.items() if queue.driver == "vfio_ap"]
    assert gone
    assert all("AES CUR" in node.samples.queues[apqn].keys for apqn in gone)
    node.start_agent()
    assert all("AES CUR" in node.samples.queues[apqn].keys for apqn in gone)
    assert node.samples.adapters[5].serial


async def test_over_provisioned_ids_do_not_count_against_a_device(node):
    report = by_uuid(await node.apply(wanted(A, "5,9", "4")))[A]
    assert (report.state, report.note.reason) == ("Ready", "OverProvisioned")
    assert "adapters 9" in report.note.message


async def test_reserved_queues_stay_with_the_host(node):
    outcome = await node.apply(wanted(A, "5", "4"), wanted(B, "6", "6"), reserved=[matrix("5", "6")])
    assert {report.state for report in outcome.reports} == {"Ready"}
    assert node.masks() == ("6", "4")
    assert outcome.plan.release.along_count == 3


async def test_the_lock_is_held_for_changes_and_only_for_them(node):
    node.witness.before = lambda op: held.append((node.folder / "lock").exists())
    held = []
    await node.apply(wanted(A, "5", "4"))
    assert held == [True, True, True]
    assert not (node.folder / "lock").exists()
    async with config_lock(node.folder / "lock"):
        (node.folder / "lock").write_text("1\n")  # a living process of somebody else
        async with asyncio.timeout(5):
            assert by_uuid(await node.apply(wanted(A, "5", "4")))[A].state == "Ready"


async def test_a_large_machine_is_read_and_reported_whole(tmp_path):
    adapters = [{"id": number, "type": "CEX8C"} for number in range(60)]
    node = Node(tmp_path, adapters=adapters, usageDomains="0-84", maxDomain=84)
    outcome = await node.apply(wanted(A, "0-9", "0-84"))
    report = by_uuid(outcome)[A]
    assert (report.state, len(report.matrix), len(report.guest)) == ("Ready", 850, 850)
    assert node.kernel.hazards == []


@pytest.mark.parametrize("profile", ["K6.1", "K6.12"])
async def test_old_kernels_are_never_made_to_overrun_a_page(tmp_path, profile):
    adapters = [{"id": number, "type": "CEX8C"} for number in range(20)]
    node = Node(tmp_path, profile, adapters=adapters, usageDomains="0-84", maxDomain=84)
    node.kernel.write(f"{paths.BUS}/apmask", "-0-9")
    node.foreign(adapters="0-9", domains="0-84")
    outcome = await node.apply(wanted(A, "10", "4"))
    assert node.kernel.hazards == []
    expected = "Ready" if profile == "K6.12" else "Failed"
    assert by_uuid(outcome)[A].state == expected


async def test_half_a_matrix_is_completed_on_a_kernel_without_ap_config(tmp_path):
    """Adapters without domains are no queues, but they are assigned all the same."""
    node = Node(tmp_path, "K6.1")
    await node.apply(wanted(A, "4-5", "6"))
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "6")
    at = len(node.witness.writes)
    assert by_uuid(await node.apply(wanted(A, "4-5", "6")))[A].state == "Ready"
    assert node.witness.writes[at:] == ["assign_domain 6"]
