"""A VM that arrives with another device than was meant is an alarm and no success.

Later kernels write the source's configuration over the target's (L-11), take a short stream without a word, and
send an old one after a move that failed (transcripts/migration/README.md: B1, M4, M7, M8, G8).
"""

import errno

import pytest

from vfio_ap_sim.cluster.simcluster import matrix
from vfio_ap_sim.kernel import SysfsError

from .pause import NODES
from .people import BANK
from .test_moves import outcome, seen

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def ended(people, vm, phase, reason=""):
    """Return what the VM's only move says once it has ended so; an alarm is told on both objects."""
    status = await outcome(people, await seen(people, vm), "Alarm", "Succeeded", "Failed")
    assert (status["phase"], status.get("reason", "")) == (phase, reason)
    if phase == "Alarm":
        said = await people.warned(vm, reason, "APMigration", "VirtualMachineInstance")
        assert all(status["message"] in message for message in said.values())
    return status.get("message", "")


def other(people, uuid, source):
    """Return the node beside the source that has the device."""
    (found,) = people.users(uuid).keys() - {source}
    return found


@pytest.mark.parametrize(
    ("rest", "phase", "reason"), [(0, "Succeeded", ""), (1, "Alarm", "NotAsMeant")], ids=["whole", "short"]
)
async def test_only_a_whole_stream_undoes_what_somebody_did_to_the_target_in_the_stop_window(
    people, rest, phase, reason
):
    uuid = await people.matrix("cut", domains=[4, 5])

    def change_and_cut(stream):
        people.write(other(people, uuid, source), uuid, "unassign_domain", 5)
        return stream[: len(stream) - rest]

    with people.knobs(wire=change_and_cut):
        source = await people.boot("shortened", "cut")
    assert await people.migrate("shortened") == "Succeeded"
    message = await ended(people, "shortened", phase, reason)
    assert not rest or "holds adapters 5 x domains 4 after the move, and adapters 5 x domains 4-5" in message


async def test_a_stream_that_was_kept_from_a_move_that_failed_is_an_alarm(people):
    uuid = await people.matrix("stale")
    sent = []

    def broken_once(stream):
        sent.append(stream)
        if len(sent) == 1:
            raise SysfsError(errno.EPIPE)
        return stream

    with people.knobs(wire=broken_once):
        source = await people.boot("dated", "stale")
    assert await people.migrate("dated") == "Failed"
    await outcome(people, await seen(people, "dated"), "Failed")
    await people.cluster.plane.kubectl("delete", "apmigration", "--all", "-n", BANK)
    await people.forget("dated")
    await people.cluster.apply(matrix("stale", adapters=[5], domains=[4, 5], allowedNamespaces=[BANK]))
    await people.holds(source, uuid, "5", "4-5")
    assert await people.migrate("dated") == "Succeeded"
    assert sent[0] == sent[1]
    message = await ended(people, "dated", "Alarm", "NotAsMeant")
    assert "holds adapters 5 x domains 4 after the move, and adapters 5 x domains 4-5" in message


async def test_an_adapter_that_leaves_the_source_while_the_memory_travels_is_missing_after_the_move(people):
    uuid = await people.matrix("shrunk", adapters=[5, 6])
    with people.knobs(copy_time=2.0):
        source = await people.boot("thrifty", "shrunk")
    await people.ask("thrifty")
    await people.over("thrifty", "Running")
    took_an_adapter_away(people, source, uuid)
    try:
        assert (await people.over("thrifty"))["status"]["phase"] == "Succeeded"
        message = await ended(people, "thrifty", "Alarm", "NotAsMeant")
        assert "holds adapters 5 x domains 4 after the move, and adapters 5-6 x domains 4 was" in message
    finally:
        came_back(people, source, uuid)


async def test_an_adapter_that_was_kept_from_the_guest_before_is_no_alarm_and_comes_after_the_move(people):
    """The target is made with what the guest has, and gets the rest then."""
    uuid = await people.matrix("filtered", adapters=[5, 6])
    source = await people.boot("modest", "filtered")
    took_an_adapter_away(people, source, uuid)
    try:
        await people.guest_has(source, uuid, "5")
        assert await people.migrate("modest") == "Succeeded"
        await ended(people, "modest", "Succeeded")
        await people.holds(other(people, uuid, source), uuid, "5-6", "4")
    finally:
        came_back(people, source, uuid)


def gave_an_adapter(people, node, uuid):
    people.write(node, uuid, "assign_adapter", 6)


def took_an_adapter_away(people, node, uuid):
    people.cluster.nodes[node].control.unplug(6)


def came_back(people, node, uuid):
    people.cluster.nodes[node].control.plug(6, "CEX8C", keys="bank")


@pytest.mark.parametrize(
    ("adapters", "happens", "reason", "said", "then"),
    [
        ([5], gave_an_adapter, "NotAsMeant", "holds adapters 5-6 x domains 4 after the move", None),
        ([5, 6], took_an_adapter_away, "FilteredAway", "the guest gets adapters 5 x domains 4 of", came_back),
    ],
    ids=["changed", "filtered"],
)
async def test_what_happens_to_the_device_before_it_is_read_back_is_an_alarm(
    people, pause, adapters, happens, reason, said, then
):
    uuid = await people.matrix("between", adapters=adapters)
    with people.knobs(copy_time=2.0):
        source = await people.boot("meddled", "between")
    await people.ask("meddled")
    await people.over("meddled", "Running")
    await pause.at(NODES)  # so nothing is read back, and both sides stay frozen
    assert (await people.over("meddled"))["status"]["phase"] == "Succeeded"
    target = other(people, uuid, source)
    happens(people, target, uuid)
    await pause.at("")
    assert said in await ended(people, "meddled", "Alarm", reason)
    if then is not None:
        then(people, target, uuid)
        await people.holds(target, uuid, "5-6", "4")
