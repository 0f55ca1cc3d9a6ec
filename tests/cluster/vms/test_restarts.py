"""Moves by a restart, where the policy allows it: the VM stops here and starts there, with its device."""

import pytest
import pytest_asyncio

from vfio_ap_operator.reconcile import POLICIES
from vfio_ap_operator.requests import MOVES
from vfio_ap_sim.kubevirt.api import VMIS

from .people import BANK
from .test_moves import outcome, request, seen

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


@pytest_asyncio.fixture(autouse=True, loop_scope="package")
async def restarts_only(people):
    """While a test runs, VMs may be moved by a restart and in no other way."""
    metadata, spec = {"name": "restarts"}, {"modes": ["Restart"]}
    await people.cluster.apply(
        {"apiVersion": POLICIES.api_version, "kind": "APMigrationPolicy", "metadata": metadata, "spec": spec}
    )
    yield
    await people.cluster.plane.kubectl("delete", "apmigrationpolicy", "restarts")


async def test_a_drain_restarts_the_vm_on_another_node(people):
    uuid = await people.matrix("offline")
    source = await people.boot("stubborn", "offline")
    before = (await people.cluster.client.get(VMIS.within(BANK), "stubborn"))["metadata"]["uid"]
    await people.drain(source)
    vmi = await people.running("stubborn", EQUAL - {source})
    assert vmi["metadata"]["uid"] != before
    status = await outcome(people, await seen(people, "stubborn"), "Succeeded", "Failed", "Alarm")
    target = vmi["status"]["nodeName"]
    assert (status["phase"], status["mode"], status["target"]) == ("Succeeded", "Restart", target), status
    assert status["line"] == f"moved from {source} to {target}; device as meant"
    assert [p["phase"] for p in status["phases"]][-2:] == ["Restarting", "Succeeded"]
    await people.released(source)
    assert people.users(uuid) == {target: f"{BANK}_stubborn"}
    listing = await people.cluster.client.listing(MOVES.within(BANK))
    assert len([move for move in listing["items"] if move["spec"]["vm"] == "stubborn"]) == 1


async def test_a_user_restarts_a_vm_on_a_node_of_his_choice_and_it_can_move_on_from_there(people):
    uuid = await people.matrix("chosen")
    source = await people.boot("choosy", "chosen")
    first, second = sorted(EQUAL - {source})
    for number, target in enumerate((second, first)):
        await people.cluster.apply(request(f"restart-{number}", "choosy", node=target))
        status = await outcome(people, f"restart-{number}", "Succeeded", "Failed", "Alarm", "Refused")
        assert (status["phase"], status["target"]) == ("Succeeded", target), status
        assert people.users(uuid)[target] == f"{BANK}_choosy"


async def test_an_operator_killed_while_the_vm_stops_has_it_started_where_it_was_to_go(people):
    uuid = await people.matrix("interrupted")
    source = await people.boot("patient", "interrupted", terminationGracePeriodSeconds=3)
    target = max(EQUAL - {source})
    await people.cluster.apply(request("away", "patient", node=target))
    await outcome(people, "away", "Restarting")
    await people.kill_operator()
    status = await outcome(people, "away", "Succeeded", "Failed", "Alarm")
    assert (status["phase"], status["target"]) == ("Succeeded", target), status
    await people.released(source)
    assert people.users(uuid) == {target: f"{BANK}_patient"}
