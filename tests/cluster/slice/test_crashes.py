"""Whatever is killed or away, what is there stays, and what was asked for comes."""

import asyncio

import pytest

from vfio_ap.host.ops import Link
from vfio_ap_kube.client import NODES, PODS
from vfio_ap_sim.cluster import SYSTEM
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, condition

from .looks import delete, everywhere, mdevs

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def pods(cluster, component):
    """Return (node, pod name) of the component's pods."""
    listing = await cluster.client.listing(
        PODS.within(SYSTEM), labelSelector=f"app.kubernetes.io/component={component}"
    )
    return [(p["spec"]["nodeName"], p["metadata"]["name"]) for p in listing["items"] if "nodeName" in p["spec"]]


async def kill(cluster, component, node=None):
    """SIGKILL the component's processes, on one node or wherever they are."""
    for where, name in await pods(cluster, component):
        if node in (None, where):
            cluster.nodes[where].kubelet.kill(SYSTEM, name)


class Interrupt:
    """Calls something at the n-th write of a node's agent, before the kernel sees the next."""

    def __init__(self, node, number, action):
        self._submit = node.control.kernel.submit
        self._node, self._left, self._action = node, number, action

    def __enter__(self):
        self._node.control.kernel.submit = self._count
        return self

    def __exit__(self, *_):
        self._node.control.kernel.submit = self._submit

    def _count(self, op, **who):
        if type(op).__name__ == "Write":
            self._left -= 1
            if self._left == 0:
                self._action()
        return self._submit(op, **who)


@pytest.mark.parametrize("write", [1, 2, 3])
async def test_an_agent_killed_at_a_write_finishes_after_its_restart(cluster, write):
    ((_, name),) = [found for found in await pods(cluster, "agent") if found[0] == "n1"]
    node = cluster.nodes["n1"]
    with Interrupt(node, write, lambda: node.kubelet.kill(SYSTEM, name)):
        await cluster.apply(everywhere("killed", [5, 6], [4], nodeSelector={"kubernetes.io/hostname": "n1"}))
        (document,) = await cluster.ready("killed")
    assert mdevs(node) == {document["status"]["uuid"]: ["05.0004", "06.0004"]}
    await delete(cluster, "killed")
    assert mdevs(node) == {}
    await cluster.until(APNODES, "n1", lambda d: d["status"]["guestQueues"] == 0, "given back")


async def test_an_operator_killed_in_the_middle_goes_on(cluster):
    await cluster.apply(everywhere("survives", [5], [4]))
    await kill(cluster, "operator")
    await cluster.apply(everywhere("survives-too", [6], [4]))
    await cluster.ready("survives", "survives-too")
    await cluster.plane.kubectl("delete", "apmatrix", "survives", "survives-too", "--wait=false")
    await kill(cluster, "operator")
    for name in ("survives", "survives-too"):
        await cluster.gone(MATRICES, name)
    assert all(mdevs(node) == {} for node in cluster.nodes.values())


async def test_a_restarted_kubelet_gets_the_resource_again(cluster):
    await cluster.apply(everywhere("again", [5], [4], nodeSelector={"kubernetes.io/hostname": "n2"}))
    await cluster.ready("again")
    await cluster.nodes["n2"].kubelet.restart()
    await cluster.until(
        NODES, "n2", lambda d: d["status"]["allocatable"].get("ap.s390x.io/again") == "1", "allocatable again"
    )
    await delete(cluster, "again")


async def test_a_minute_without_the_api_server_changes_nothing_and_delays_nothing_more(cluster):
    await cluster.apply(everywhere("outlasts", [5], [4]))
    (document,) = await cluster.ready("outlasts")
    uuid = document["status"]["uuid"]
    await cluster.plane.stop_apiserver()
    try:
        # The outage itself is what is tried: nothing can be awaited while nobody answers.
        await asyncio.sleep(60)
        assert all(list(mdevs(node)) == [uuid] for node in cluster.nodes.values())
    finally:
        await cluster.plane.start_apiserver()
    await cluster.apply(everywhere("outlasts", [5], [4, 6]))
    await cluster.ready("outlasts", limit=90)
    assert all(mdevs(node) == {uuid: ["05.0004", "05.0006"]} for node in cluster.nodes.values())
    await delete(cluster, "outlasts")


async def test_a_node_whose_files_vanish_is_said_so_and_recovers(cluster):
    await cluster.apply(everywhere("vanishes", [5], [4], nodeSelector={"kubernetes.io/hostname": "n3"}))
    (document,) = await cluster.ready("vanishes")
    node = cluster.nodes["n3"]
    await node.simulator.__aexit__(None, None, None)
    try:
        await cluster.until(APNODES, "n3", lambda d: condition(d, "Ready") == "False", "not Ready", limit=90)
        assert list(mdevs(node)) == [document["status"]["uuid"]]
    finally:
        await node.simulator.__aenter__()
    await cluster.until(APNODES, "n3", lambda d: condition(d, "Ready") == "True", "Ready again", limit=90)
    await cluster.ready("vanishes")
    await delete(cluster, "vanishes")


async def test_a_foreign_device_is_left_alone_and_named(cluster):
    node, foreign = cluster.nodes["n3"], "f0f0f0f0-0000-4000-8000-000000000001"
    kernel = node.control.kernel
    create = "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"
    kernel.write(create, foreign)
    kernel.write(f"/sys/devices/vfio_ap/matrix/{foreign}/assign_adapter", "5")
    await cluster.apply(everywhere("beside", [5], [4], nodeSelector={"kubernetes.io/hostname": "n3"}))
    await cluster.ready("beside")
    found = await cluster.client.get(APNODES, "n3")
    assert {m["uuid"]: m["state"] for m in found["status"]["mdevs"]}[foreign] == "Foreign"
    await delete(cluster, "beside")
    assert list(mdevs(node)) == [foreign]
    kernel.write(f"/sys/devices/vfio_ap/matrix/{foreign}/remove", "1")
    (answer,) = await node.host.run([Link(f"/sys/bus/mdev/devices/{foreign}")], deadline=5)
    assert type(answer).__name__ == "Failed"
