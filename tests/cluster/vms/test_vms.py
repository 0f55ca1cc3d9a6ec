"""A VM gets its crypto by one annotation, and keeps it through moves and drains."""

import asyncio

import pytest

from vfio_ap_kube.client import PODS
from vfio_ap_sim.cluster import SYSTEM
from vfio_ap_sim.cluster.simcluster import MATRICES
from vfio_ap_sim.controlplane import CommandFailedError

from .people import BANK, vm

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


async def test_one_annotation_gives_a_vm_its_device(people):
    uuid = await people.matrix("annotated")
    node = await people.boot("ledger", "annotated")
    assert people.users(uuid) == {node: "bank_ledger"}
    guest = people.kubevirt.handlers[node].guest(BANK, "ledger")
    assert uuid in guest.xml
    assert guest.sees_adapters
    await people.cluster.until(MATRICES, "annotated", lambda d: d["status"]["usedBy"] == "bank/ledger", "used")


async def test_a_vm_that_stops_leaves_nothing(people):
    uuid = await people.matrix("stopped")
    node = await people.boot("shortlived", "stopped")
    await people.cluster.plane.kubectl("delete", "vm", "shortlived", "-n", BANK)
    await people.released(node)
    assert people.users(uuid) == {}


async def test_a_migration_by_hand_keeps_the_device(people):
    uuid = await people.matrix("moved", nodeSelector={})
    source = await people.boot("mover", "moved")
    assert await people.migrate("mover") == "Succeeded"
    target = (await people.running("mover", EQUAL - {source}))["status"]["nodeName"]
    await people.released(source)
    assert people.users(uuid) == {target: "bank_mover"}


async def test_a_drain_moves_the_vm_to_a_node_that_fits(people):
    uuid = await people.matrix("drained")
    source = await people.boot("teller", "drained")
    for node in sorted(EQUAL - {source})[1:]:
        await people.cluster.plane.kubectl("cordon", node)
    assert f"node/{source} drained" in await people.drain(source)
    (target,) = sorted(EQUAL - {source})[:1]
    await people.running("teller", {target})
    await people.released(source)
    assert people.users(uuid) == {target: "bank_teller"}
    assert target in await people.told("teller", "Evacuating")


async def test_a_drain_without_a_fitting_node_waits_and_says_why(people):
    uuid = await people.matrix("stuck")
    source = await people.boot("cashier", "stuck")
    for node in EQUAL - {source}:
        await people.cluster.plane.kubectl("cordon", node)
    with pytest.raises(CommandFailedError):
        await people.drain(source, limit=6)
    message = await people.told("cashier", "NoTarget")
    assert "z-odd: queue 05.0004: mode: CCA" in message
    assert people.users(uuid) == {source: "bank_cashier"}


async def test_an_operator_killed_in_the_middle_of_a_drain_finishes_it(people):
    uuid = await people.matrix("interrupted")
    source = await people.boot("clerk", "interrupted")
    drain = asyncio.create_task(people.drain(source, limit=90))
    await people.told("clerk", "Preparing")
    pods = await people.cluster.client.listing(
        PODS.within(SYSTEM), labelSelector="app.kubernetes.io/component=operator"
    )
    for pod in pods["items"]:
        people.cluster.nodes[pod["spec"]["nodeName"]].kubelet.kill(SYSTEM, pod["metadata"]["name"])
    assert f"node/{source} drained" in await drain
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_clerk"]


async def test_the_second_of_two_vms_with_one_matrix_waits(people):
    uuid = await people.matrix("wanted-twice")
    node = await people.boot("first", "wanted-twice")
    await people.cluster.apply(vm("second", "wanted-twice"))
    assert "bank/first" in await people.told("second", "MatrixInUse")
    assert people.users(uuid) == {node: "bank_first"}


async def test_a_vm_with_an_unknown_matrix_is_refused_when_it_is_made(people):
    with pytest.raises(CommandFailedError, match="may not use matrix nosuch"):
        await people.cluster.apply(vm("hopeful", "nosuch"))
