"""A move that fails on its way leaves the VM where it was, with its device, and gives the target back."""

import asyncio

import pytest

from vfio_ap_operator.requests import MOVES
from vfio_ap_sim.kubevirt.api import VMIS

from .people import BANK
from .test_moves import outcome

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


async def back(people, uuid, source, name):
    """Return once the VM has its device on the source, and no other node holds one."""
    for node in EQUAL - {source}:
        await people.released(node)
    await people.running(name, {source})
    assert people.users(uuid) == {source: f"{BANK}_{name}"}


async def test_what_the_target_refuses_is_told_and_the_next_attempt_succeeds(people):
    uuid = await people.matrix("refused-there")
    source = await people.boot("unlocked", "refused-there")
    told = asyncio.create_task(people.told("unlocked", "Migrated"))
    with people.knobs(raise_memlock_on_target=False):
        assert await people.migrate("unlocked") == "Failed"
    words = "cannot limit locked memory to 1207959552: Operation not permitted"
    assert words in await told
    found = await people.cluster.client.get(VMIS.within(BANK), "unlocked")
    assert words in found["status"]["migrationState"]["failureReason"]
    moves = (await people.cluster.client.listing(MOVES.within(BANK)))["items"]
    (move,) = [move for move in moves if move["spec"]["vm"] == "unlocked"]  # those of VMs that are gone go later
    status = await outcome(people, move["metadata"]["name"], "Failed")
    assert status["source"] == source
    assert words in status["message"]
    assert words in await people.told("unlocked", status["reason"])
    await back(people, uuid, source, "unlocked")
    await people.forget("unlocked")
    assert await people.migrate("unlocked") == "Succeeded"
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_unlocked"]


async def test_a_target_s_kernel_that_takes_no_queues_gives_the_guest_back(people):
    uuid = await people.matrix("taken-away")
    with people.knobs(copy_time=3.0):
        source = await people.boot("returned", "taken-away")
    await people.ask("returned")
    await people.over("returned", "Running")
    (target,) = people.users(uuid).keys() - {source}
    # While the memory travels the adapter goes there: neither operator nor agent can know in time
    people.cluster.nodes[target].control.unplug(5)
    try:
        assert (await people.over("returned"))["status"]["phase"] == "Failed"
        found = await people.cluster.client.get(VMIS.within(BANK), "returned")
        assert "load of migration failed" in found["status"]["migrationState"]["failureReason"]
        assert "05.0004" not in found["status"]["migrationState"]["failureReason"]
        moves = (await people.cluster.client.listing(MOVES.within(BANK)))["items"]
        (move,) = [move for move in moves if move["spec"]["vm"] == "returned"]
        status = await outcome(people, move["metadata"]["name"], "Failed")
        assert (status["reason"], status["target"]) == ("QueueNotInDevice", target)
        assert "queue 05.0004: is in the guest on the source, and not with vfio_ap" in status["message"]
        assert f"kernel of {target}: vfio_ap_mdev {uuid}: Queue 05.0004 not available" in status["message"]
        assert status["remedy"]
        assert "05.0004" in await people.told("returned", "QueueNotInDevice")
        await back(people, uuid, source, "returned")
    finally:
        people.cluster.nodes[target].control.plug(5, "CEX8C", keys="bank")


async def test_an_aborted_move_leaves_the_guest_where_it_was(people):
    uuid = await people.matrix("aborted")
    with people.knobs(copy_time=3600):
        source = await people.boot("recalled", "aborted")
    await people.ask("recalled")
    await people.over("recalled", "Running")
    await people.forget("recalled")
    await back(people, uuid, source, "recalled")


async def test_a_policy_that_asks_for_post_copy_moves_the_vm_without_it(people):
    policy = {
        "apiVersion": "migrations.kubevirt.io/v1alpha1",
        "kind": "MigrationPolicy",
        "metadata": {"name": "late"},
        "spec": {
            "allowPostCopy": True,
            "bandwidthPerMigration": "64Mi",
            "selectors": {"namespaceSelector": {"kubernetes.io/metadata.name": BANK}},
        },
    }
    await people.cluster.apply(policy)
    try:
        uuid = await people.matrix("precopied")
        source = await people.boot("early", "precopied")
        assert await people.migrate("early") == "Succeeded"
    finally:
        await people.cluster.plane.kubectl("delete", "migrationpolicy", "late")
    state = (await people.running("early", EQUAL - {source}))["status"]["migrationState"]
    assert (state["migrationPolicyName"], state["migrationConfiguration"]["allowPostCopy"]) == ("late", False)
    assert state["migrationConfiguration"]["bandwidthPerMigration"] == "64Mi"
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_early"]
