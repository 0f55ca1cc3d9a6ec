"""Moves on kernels of the first version, which must be told that a device may move. Last, for its nodes stay."""

import pytest

from vfio_ap_operator.requests import MOVES

from .conftest import lpar
from .people import BANK

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
NODES = ("w1", "w2")


async def attribute(people, node, uuid):
    text = await people.cluster.nodes[node].read(f"/sys/devices/vfio_ap/matrix/{uuid}/migratable")
    return text.strip()


async def test_the_device_is_migratable_for_the_move_and_no_longer(people):
    for name in NODES:
        node = await people.cluster.add_node(
            name, lpar(name, "CEX8C"), profile="MIGv1", labels={"kernel": "first"}
        )
        await people.kubevirt.attach(node)
    await people.cluster.reported(*NODES)
    uuid = await people.matrix("first", nodeSelector={"kernel": "first"})
    source = await people.boot("pioneer", "first")
    assert await attribute(people, source, uuid) == "0"
    assert await people.migrate("pioneer") == "Succeeded"
    (target,) = set(NODES) - {source}
    await people.running("pioneer", {target})
    moves = (await people.cluster.client.listing(MOVES.within(BANK)))["items"]
    (move,) = [move for move in moves if move["spec"]["vm"] == "pioneer"]  # those of VMs that are gone go later
    await people.cluster.until(
        MOVES.within(BANK), move["metadata"]["name"], lambda d: d["status"]["phase"] == "Succeeded", "done"
    )
    await people.released(source)
    assert people.users(uuid) == {target: "bank_pioneer"}
    await people.cleared(target, uuid)
    assert await attribute(people, target, uuid) == "0"


async def test_a_target_is_made_with_what_the_guest_has_and_filled_up_after_the_move(people):
    uuid = await people.matrix("fewer", nodeSelector={"kernel": "first"}, adapters=[5, 6])
    source = await people.boot("thrifty", "fewer")
    (target,) = set(NODES) - {source}
    people.cluster.nodes[source].control.unplug(6)
    try:
        await people.guest_has(source, uuid, "5")
        assert await people.migrate("thrifty") == "Succeeded"
        await people.running("thrifty", {target})
        await people.released(source)
        await people.guest_has(target, uuid, "5-6")
    finally:
        people.cluster.nodes[source].control.plug(6, "CEX8C")
