"""kubectl apply of an APMatrix makes the devices; editing, refusing and deleting it do what they say."""

import pytest

from vfio_ap.idset import IdSet
from vfio_ap_kube.client import NAMESPACES, NODES, PODS
from vfio_ap_sim.cluster import SYSTEM
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, condition
from vfio_ap_sim.controlplane.ports import FIRST, LAST
from vfio_ap_sim.kernel import finished

from .conftest import lpar
from .looks import ALL_ONES, delete, event, everywhere, masks, mdevs, no_resource, released

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def test_a_matrix_becomes_the_same_device_on_each_chosen_node(cluster):
    await cluster.apply(everywhere("same", [5, 6], [4, "0xab"], nodeSelector={"row": "a"}))
    (document,) = await cluster.ready("same")
    uuid = document["status"]["uuid"]
    assert document["status"]["ready"] == "2/2"
    for name in ("n1", "n2"):
        assert mdevs(cluster.nodes[name]) == {uuid: ["05.0004", "05.00ab", "06.0004", "06.00ab"]}
        assert await released(cluster.nodes[name]) == (IdSet(), IdSet.of(4, 0xAB))
        node = await cluster.client.get(NODES, name)
        assert node["status"]["allocatable"]["ap.s390x.io/same"] == "1"
    assert mdevs(cluster.nodes["n3"]) == {}
    namespace = await cluster.client.get(NAMESPACES, "bank")
    assert namespace["metadata"]["labels"]["use.ap.s390x.io/same"] == uuid
    await delete(cluster, "same")


async def test_no_pod_listens_on_a_port_that_a_server_of_others_may_have(cluster):
    pods = (await cluster.client.listing(PODS.within(SYSTEM)))["items"]
    found = {p["containerPort"] for pod in pods for c in pod["spec"]["containers"] for p in c["ports"]}
    assert len(found) >= 2, "operator and agents"
    assert all(FIRST <= port <= LAST for port in found), found


async def test_deleting_leaves_nothing_behind(cluster):
    await cluster.apply(everywhere("leaves", [5], [4]))
    await cluster.ready("leaves")
    await delete(cluster, "leaves")
    for name, node in cluster.nodes.items():
        assert mdevs(node) == {}
        await cluster.until(
            APNODES, name, lambda d: d.get("status", {}).get("guestQueues", 0) == 0, "with no guest queue"
        )
        assert await masks(node) == (ALL_ONES, ALL_ONES)
        assert (await cluster.client.get(APNODES, name))["spec"].get("mdevs", []) == []
        await no_resource(cluster, name, "leaves")
    labels = (await cluster.client.get(NAMESPACES, "bank"))["metadata"]["labels"]
    assert not [label for label in labels if label.startswith("use.ap.s390x.io/")]


async def test_an_edit_reaches_the_nodes_in_place(cluster):
    await cluster.apply(everywhere("edited", [5], [4]))
    (before,) = await cluster.ready("edited")
    await cluster.apply(everywhere("edited", [5], [4, 6]))
    (after,) = await cluster.ready("edited")
    assert after["status"]["uuid"] == before["status"]["uuid"]
    for node in cluster.nodes.values():
        assert mdevs(node) == {after["status"]["uuid"]: ["05.0004", "05.0006"]}
    await delete(cluster, "edited")


async def test_a_conflict_is_refused_and_stands_when_the_first_is_gone(cluster):
    await cluster.apply(everywhere("first", [5, 6], [4]))
    await cluster.ready("first")
    await cluster.apply(everywhere("second", [6], [4]))
    refused = await cluster.until(MATRICES, "second", lambda d: condition(d, "Accepted") == "False", "refused")
    assert refused.get("status", {}).get("state") == "Refused (Overlap)"
    assert "APMatrix first on node n1: queue 06.0004" in await event(cluster, "second", "Overlap")
    assert all(len(mdevs(node)) == 1 for node in cluster.nodes.values())
    await delete(cluster, "first")
    await cluster.ready("second")
    await delete(cluster, "second")


async def test_a_refused_edit_changes_nothing(cluster):
    await cluster.apply(everywhere("owner", [5], [4]))
    await cluster.apply(everywhere("greedy", [6], [4]))
    await cluster.ready("owner", "greedy")
    before = {name: mdevs(node) for name, node in cluster.nodes.items()}
    await cluster.apply(everywhere("greedy", [5, 6], [4]))
    await cluster.until(
        MATRICES, "greedy", lambda d: d.get("status", {}).get("state") == "Refused (Overlap)", "refused"
    )
    assert {name: mdevs(node) for name, node in cluster.nodes.items()} == before
    assert condition(await cluster.client.get(MATRICES, "owner"), "Ready") == "True"
    await delete(cluster, "owner", "greedy")


async def test_a_matrix_in_use_is_not_deleted(cluster):
    await cluster.apply(everywhere("used", [5], [4], nodeSelector={"row": "b"}))
    (document,) = await cluster.ready("used")
    uuid, node = document["status"]["uuid"], cluster.nodes["n3"]
    await finished(node.control.start_guest("vm1", uuid))
    await cluster.until(MATRICES, "used", lambda d: d.get("status", {}).get("usedBy") == "n3", "in use")
    await cluster.plane.kubectl("delete", "apmatrix", "used", "--wait=false")
    await cluster.until(MATRICES, "used", lambda d: d.get("status", {}).get("state") == "Deleting (InUse)", "kept")
    assert list(mdevs(node)) == [uuid]
    await finished(node.control.stop_guest("vm1"))
    await cluster.gone(MATRICES, "used")
    assert mdevs(node) == {}


async def test_an_id_above_a_nodes_maximum_is_refused_there_and_made_elsewhere(cluster):
    await cluster.add_node("small", lpar("small", maxDomain=84, usage="0-15"), labels={"row": "c"})
    await cluster.reported("small")
    await cluster.apply(everywhere("high", [5], [4, "0xab"]))
    document = await cluster.until(
        MATRICES, "high", lambda d: d.get("status", {}).get("ready") == "3/4", "ready on the nodes that can"
    )
    entry = next(node for node in document["status"]["nodes"] if node["name"] == "small")
    assert (entry["state"], entry["reason"]) == ("Refused", "IdAboveMaximum")
    assert "171" in entry["message"]
    assert mdevs(cluster.nodes["small"]) == {}
    await delete(cluster, "high")


async def test_a_node_that_joins_gets_its_device_and_one_that_leaves_is_forgotten(cluster):
    await cluster.apply(everywhere("joins", [5], [4], nodeSelector={"row": "new"}))
    await cluster.until(
        MATRICES, "joins", lambda d: d.get("status", {}).get("state") == "Pending (NoNodes)", "waiting"
    )
    node = await cluster.add_node("late", lpar("late"), labels={"row": "new"})
    (document,) = await cluster.ready("joins")
    assert mdevs(node) == {document["status"]["uuid"]: ["05.0004"]}
    await node.stop()
    del cluster.nodes["late"]
    await cluster.plane.kubectl("delete", "node", "late")
    await cluster.gone(APNODES, "late")
    await cluster.until(
        MATRICES, "joins", lambda d: d.get("status", {}).get("state") == "Pending (NoNodes)", "waiting"
    )
    await delete(cluster, "joins")
