"""The ten hazards of kernel-ap.md section 8, by number; each guard was taken out once and a test failed.

1. a mask zeroed, a write split          ``test_1_*``; test_host: ``test_a_store_is_one_write_*``,
                                         ``test_a_write_neither_creates_nor_truncates_*``
2. ``remove`` of a device in use         ``test_2_*``; test_apply: ``test_a_guest_that_starts_between_*``,
                                         ``test_a_removal_that_hangs_*``; test_host: ``test_reads_go_on_while_*``
3. ``reset`` under a guest               ``test_3_*``
4. ``matrix`` above 511 queues           ``test_4_*``; test_apply: ``test_old_kernels_are_never_made_to_overrun_*``
5. calls that block without bound        ``test_5_*``; test_host: ``test_a_read_that_hangs_*``,
                                         ``test_a_worker_that_cannot_die_*``
6. masks against driver_override         ``test_6_*``; test_override: ``test_a_handover_back_that_was_cut_short_*``
7. success that is none, words that lie  ``test_7_*``; test_apply: ``test_a_queue_without_driver_*``
8. filtered adapters stay away           ``test_8_*``
9. keys that vanish                      ``test_9_*``; test_apply: ``test_keys_are_sampled_*``; test_keys
10. ``migratable``: attribute or token   ``test_10_*``; test_moves
"""

import asyncio
import re
from dataclasses import replace

import pytest

from vfio_ap.errors import RefusedError
from vfio_ap.host.ops import Data, Read, Write, Written
from vfio_ap.host.wish import (
    Configure,
    Create,
    EditMask,
    Override,
    Probe,
    Remove,
    SetMigratable,
    Unbind,
)
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, parse_matrix_file
from vfio_ap_agent import paths
from vfio_ap_agent.inventory import read_host

from .support import A, B, Node, by_uuid, matrix, wanted

RELATIVE = re.compile(r"ap?q?mask [+-][0-9]+(,[+-][0-9]+)*")
WRITTEN = {
    "create", "remove", "ap_config", "apmask", "aqmask", "drivers_probe", "driver_override", "unbind",
    *(f"{verb}_{kind}" for verb in ("assign", "unassign") for kind in ("adapter", "domain", "control_domain")),
}  # fmt: skip
"""Every file that the agent ever writes."""


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def a_full_life(node):
    for mdevs in (
        (wanted(A, "4-6", "4", "4"), wanted(B, "5", "6")),
        (wanted(A, "5", "4,6"), wanted(B, "4,6", "171", "6")),
        (wanted(B, "4,9", "171"),),
        (),
    ):
        await node.apply(*mdevs)
    return node.witness.writes


@pytest.mark.parametrize("profile", ["K7.1", "K6.12", "K6.1"])
async def test_1_masks_are_edited_by_difference_in_one_write_each(tmp_path, profile):
    writes = await a_full_life(Node(tmp_path, profile))
    edits = [line for line in writes if line.startswith(("apmask", "aqmask"))]
    assert edits
    assert [line for line in edits if not RELATIVE.fullmatch(line)] == []


async def test_1_a_write_that_was_taken_in_part_is_a_failure(node):
    node.witness.run = shortened(node.witness.run)
    outcome = await node.apply(wanted(A, "5", "4"))
    assert {refusal.reason for _, refusal in outcome.failures} == {"ShortWrite"}
    assert by_uuid(outcome)[A].state == "Failed"


def shortened(run):
    async def answer(ops, *, deadline):
        if isinstance(ops[0], Write):
            return [Written(1)]
        return await run(ops, deadline=deadline)

    return answer


async def test_2_a_device_without_queues_in_its_guest_counts_as_used_while_its_group_is_open(node):
    """Its status files say nothing, because its shadow is empty (V-36)."""
    await node.apply(wanted(A, "5", "4"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    node.control.start_guest("vm", A)
    outcome = await node.apply()
    assert not outcome.view.mdevs[A].queues_in_use
    assert by_uuid(outcome)[A].note.reason == "InUse"
    assert outcome.failures == [], "not even tried"
    assert not any(line.startswith("remove") for line in node.witness.writes)


@pytest.mark.parametrize(("profile", "prefer"), [("K7.1", "masks"), ("K7.1", "override"), ("K6.1", "masks")])
async def test_3_nothing_is_written_but_what_is_on_the_list(tmp_path, profile, prefer):
    writes = await a_full_life(Node(tmp_path, profile, prefer))
    assert {line.split()[0] for line in writes} <= WRITTEN


LARGE = {"adapters": [{"id": n, "type": "CEX8C"} for n in range(7)], "usageDomains": "0-84", "maxDomain": 84}


async def test_4_a_kernel_that_would_overrun_a_page_is_given_no_such_matrix(tmp_path):
    node = Node(tmp_path, "K6.1", **LARGE)
    report = by_uuid(await node.apply(wanted(A, "0-6", "0-84"), wanted(B, "0", "0")))
    assert (report[A].state, report[A].note.reason) == ("Failed", "TooManyQueues")
    assert node.kernel.hazards == []


@pytest.mark.parametrize("profile", ["K7.1", "K6.12"])
async def test_4_a_matrix_above_a_page_is_never_read_and_a_truncated_one_never_believed(tmp_path, profile):
    node = Node(tmp_path, profile, **LARGE)
    report = by_uuid(await node.apply(wanted(A, "0-6", "0-84")))[A]
    assert (report.state, report.matrix, report.guest) == ("Ready", matrix("0-6", "0-84"), matrix("0-6", "0-84"))
    assert node.kernel.hazards == []
    if profile == "K6.12":
        return
    text = node.kernel.read(f"{paths.mdev(A)}/matrix")
    assert len(text) == 4095
    with pytest.raises(RefusedError, match="end without a newline"):
        parse_matrix_file(text)


async def test_5_a_host_that_hangs_stops_the_pass_and_not_the_process(node):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    node.witness.run = hanging(node.witness.run)
    outcome = await node.apply(wanted(A, "5", "4"))
    ticking.cancel()
    assert outcome.problem.reason == "SysfsTimeout"
    assert ticks > 10
    assert node.witness.writes == []


def hanging(run):
    async def answer(ops, *, deadline):
        if isinstance(ops[0], Write):
            for _ in range(20):
                await asyncio.sleep(0)
            raise TimeoutError
        return await run(ops, deadline=deadline)

    return answer


async def test_6_a_mask_is_never_written_where_there_is_an_override(node):
    node.kernel.write(f"{paths.queue(Apqn(6, 171))}/driver_override", "vfio_ap")
    writes = await a_full_life(node)
    assert not any("mask" in line for line in writes)


@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("apmask", EditMask), ("create", Create), ("ap_config", Configure), ("remove", Remove),
        ("driver_override", Override), ("unbind", Unbind), ("drivers_probe", Probe), ("migratable", SetMigratable),
    ],
)  # fmt: skip
async def test_7_a_success_without_effect_is_a_failure(tmp_path, file, step):
    """chzdev and ap-check believe it (T-11)."""
    profile = "MIGv1" if file == "migratable" else "K7.1"
    prefer = "override" if file in ("driver_override", "unbind", "drivers_probe") else "masks"
    node = Node(tmp_path, profile, prefer)
    mdev = replace(wanted(A, "4-5", "4,6,171"), migratable=True)
    if file == "remove":
        await node.apply(mdev)
    node.witness.run = pretending(node.witness.run, file)
    outcome = await node.apply(*(() if file == "remove" else (mdev,)))
    assert {refusal.reason for _, refusal in outcome.failures} <= {"NotAsWritten", "NotBound"}
    assert isinstance(outcome.failures[0][0], step)
    (report,) = outcome.reports
    assert (report.state, bool(report.migratable)) == (
        {"remove": "Leaving", "migratable": "Ready"}.get(file, "Failed"),
        False,
    )
    assert report.note is not None


@pytest.mark.parametrize("says", ["guest_matrix dyn ap_config", "flags : ap_config guest_matrix", ""])
async def test_7_the_words_of_the_features_file_are_not_what_is_gone_by(node, says):
    """The kernel's document says ``dyn``, its code ``hotplug`` (V-2); what counts is what is there."""
    node.witness.run = saying(node.witness.run, f"{paths.MATRIX}/features", says)
    node.foreign()
    report = by_uuid(await node.apply(wanted(A, "5", "4")))[A]
    assert report.state == "Ready"
    assert any(line.startswith("ap_config") for line in node.witness.writes)


def saying(run, path, text):
    async def answer(ops, *, deadline):
        results = await run(ops, deadline=deadline)
        pairs = zip(ops, results, strict=True)
        return [Data(text.encode() + b"\n") if op == Read(path) else result for op, result in pairs]

    return answer


async def test_7_a_removal_that_the_document_calls_forbidden_is_never_tried_on_a_device_in_use(node):
    """No EBUSY protects a guest: the write takes its crypto and waits (V-33)."""
    await node.apply(wanted(A, "5", "4"))
    node.control.start_guest("vm", A)
    for _ in range(3):
        outcome = await node.apply()
        assert (outcome.plan.steps, outcome.failures) == ((), [])
    assert not any(line.startswith("remove") for line in node.witness.writes)
    assert node.kernel.guests["vm"].has_device


def pretending(run, file, tried=None):
    async def answer(ops, *, deadline):
        if isinstance(ops[0], Write) and ops[0].path.endswith(f"/{file}"):
            if tried is not None:
                tried.append(file)
            return [Written(len(ops[0].data))]
        return await run(ops, deadline=deadline)

    return answer


@pytest.mark.parametrize(
    ("profile", "again"),
    [("K7.1", ["ap_config"]), ("K6.12", ["ap_config"]), ("K6.1", ["unassign_adapter", "assign_adapter"])],
)
async def test_8_an_adapter_that_was_filtered_comes_back_by_writing_the_configuration_again(
    tmp_path, profile, again
):
    """The domain for whose sake it was filtered is gone, and the kernel does not look again (V-24)."""
    node = Node(tmp_path, profile)
    await node.apply(wanted(A, "5-6", "4,6"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    view = await read_host(node.witness, node.applier.ours.mdevs)
    assert view.mdevs[A].guest.adapters == IdSet.of(6)
    at = len(node.witness.writes)
    report = by_uuid(await node.apply(wanted(A, "5-6", "6")))[A]
    assert (report.state, report.guest) == ("Ready", matrix("5-6", "6"))
    assert [line.split()[0] for line in node.witness.writes[at:]] == again


@pytest.mark.parametrize(("file", "writes"), [("drivers_probe", ["drivers_probe"]), ("ap_config", ["ap_config"])])
async def test_8_what_does_not_come_back_is_tried_once_and_said(node, file, writes):
    """The queue finds no driver, or it has and a reset of it failed."""
    await node.apply(wanted(A, "5-6", "4,6"))
    node.kernel.write(f"{paths.DRIVERS}/vfio_ap/unbind", "05.0004")
    wish = wanted(A, "5-6", "4,6")
    if file == "ap_config":
        node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
        wish = wanted(A, "5-6", "6")
    tried = []
    node.witness.run = pretending(node.witness.run, file, tried)
    for _ in range(3):
        report = by_uuid(await node.apply(wish))[A]
        assert (report.state, report.note.reason) == ("Incomplete", "Filtered")
    assert tried == writes


@pytest.mark.parametrize("prefer", ["masks", "override"])
async def test_9_keys_and_serial_numbers_are_read_before_they_cannot_be(tmp_path, prefer):
    node = Node(tmp_path, prefer=prefer)
    node.witness.before = lambda op: seen.append((op.path, Apqn(5, 4) in node.samples.queues))
    seen = []
    await node.apply(wanted(A, "5", "4,6,171"))
    leaving = [known for path, known in seen if path.endswith(("apmask", "aqmask", "unbind"))]
    assert leaving
    assert all(leaving)
    node.start_agent()
    assert node.samples.queues[Apqn(5, 4)].keys["AES CUR"]
    assert node.samples.adapters[5].serial


@pytest.mark.parametrize(("profile", "says"), [("K7.1", "no"), ("MIGv1", "v1"), ("MIGv4PLUS", "v4")])
async def test_10_live_migration_is_told_by_what_is_there(tmp_path, profile, says):
    node = Node(tmp_path, profile)
    outcome = await node.apply(wanted(A, "5", "4"))
    assert outcome.view.kernel.live_migration == says
