"""An operator that is killed at any phase of a move goes on with it; afterwards both sides are as they must be."""

import pytest

from vfio_ap_sim.kubevirt.api import VMIS

from .pause import GATE, HOLD, NODES
from .people import BANK

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


def gated(pod):
    return bool(pod["spec"].get("schedulingGates"))


def held(pod):
    """Tell whether only the hold keeps the pod from being ready."""
    ready = {c["name"]: c["ready"] for c in pod.get("status", {}).get("containerStatuses", ())}
    return ready.get("compute") and not all(ready.values())


async def before_the_gate_is_lifted(people, pause, uuid, source):
    """The target's node has the device, and its pod waits at the gate."""
    await pause.at(GATE)
    await people.ask("mover")
    await people.target(gated)
    while len(people.users(uuid)) < 2:
        await people.target(gated)
    await people.kill_operator()
    assert people.users(uuid)[source] == "bank_mover"


async def after_the_gate_was_lifted(people, pause, uuid, source):
    """The target's pod has its node and does not run yet."""
    await pause.at(HOLD)
    await people.ask("mover")
    pod = await people.target(lambda p: not gated(p))
    await people.kill_operator()
    assert pod["status"]["phase"] == "Pending"


async def while_the_target_is_held(people, pause, uuid, source):
    """The target's pod runs, and its sidecar is not ready."""
    await pause.at(HOLD)
    await people.ask("mover")
    pod = await people.target(held)
    await people.kill_operator()
    assert pod["metadata"]["annotations"]["ap.s390x.io/hold"] == "held"


async def while_the_guest_moves(people, pause, uuid, source):
    """The hold is lifted, KubeVirt moves the guest."""
    await people.ask("mover")
    await people.over("mover", "Running")
    await people.kill_operator()
    assert people.users(uuid)[source] == "bank_mover"


async def before_the_source_is_released(people, pause, uuid, source):
    """The guest has moved, and the source still holds its device."""
    await people.ask("mover")
    await people.over("mover", "Running")
    await pause.at(NODES)
    await people.over("mover")
    await people.kill_operator()
    assert people.users(uuid)[source] is None


PHASES = [
    before_the_gate_is_lifted,
    after_the_gate_was_lifted,
    while_the_target_is_held,
    while_the_guest_moves,
    before_the_source_is_released,
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_an_operator_killed_goes_on_with_the_move(people, pause, phase):
    uuid = await people.matrix("interrupted-move")
    with people.knobs(copy_time=2.0):
        source = await people.boot("mover", "interrupted-move")
    await phase(people, pause, uuid, source)
    await pause.at("")
    assert (await people.over("mover"))["status"]["phase"] == "Succeeded"
    target = (await people.running("mover", EQUAL - {source}))["status"]["nodeName"]
    await people.released(source)
    assert people.users(uuid) == {target: "bank_mover"}
    found = await people.cluster.client.get(VMIS.within(BANK), "mover")
    assert found["status"]["migrationState"]["completed"]
