"""What changes around a running VM takes nothing from it, and says that it waits."""

import json

import pytest

from vfio_ap_kube.client import NAMESPACES
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, matrix
from vfio_ap_sim.kubevirt.api import VMIS

from .pause import HOLD
from .people import BANK
from .test_moves import outcome, seen

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}
WAITS = "an edit waits until the move in flight is over"


async def test_a_matrix_deleted_under_its_vm_stays_until_the_vm_is_gone(people):
    uuid = await people.matrix("doomed")
    source = await people.boot("survivor", "doomed")
    await people.cluster.plane.kubectl("delete", "apmatrix", "doomed", "--wait=false")
    await people.cluster.until(MATRICES, "doomed", lambda d: "InUse" in d["status"].get("state", ""), "kept")
    assert people.users(uuid) == {source: "bank_survivor"}
    await people.cluster.plane.kubectl("delete", "vm", "survivor", "-n", BANK)
    await people.cluster.gone(MATRICES, "doomed")
    assert people.users(uuid) == {}
    await people.released(source)


async def test_a_matrix_edited_under_its_vm_leaves_the_vm_its_device(people):
    uuid = await people.matrix("edited")
    source = await people.boot("steady", "edited")
    await people.cluster.apply(matrix("edited", adapters=[5], domains=[4, 5], allowedNamespaces=[BANK]))

    def observed(document):
        return document["status"].get("observedGeneration") == document["metadata"]["generation"]

    await people.cluster.until(MATRICES, "edited", observed, "seen")
    assert people.users(uuid) == {source: "bank_steady"}
    assert await people.migrate("steady") == "Succeeded"
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_steady"]


async def test_a_matrix_edited_while_its_vm_moves_waits_says_so_and_comes_after_the_move(people, pause):
    uuid = await people.matrix("revised")
    source = await people.boot("mover", "revised")
    await pause.at(HOLD)
    await people.ask("mover")
    target = (await people.target(lambda p: p["spec"].get("nodeName")))["spec"]["nodeName"]
    for node in (source, target):
        await people.cluster.until(APNODES, node, lambda d: d["spec"]["mdevs"][0].get("frozen"), "frozen")
    await people.cluster.apply(matrix("revised", adapters=[5], domains=[4, 5], allowedNamespaces=[BANK]))

    def waits(document):
        said = {n["name"]: (n.get("reason"), n.get("message")) for n in document["status"].get("nodes", ())}
        return said.get(source) == ("EditWaits", WAITS)

    await people.cluster.until(MATRICES, "revised", waits, "told to wait")
    for node in (source, target):
        (wish,) = (await people.cluster.client.get(APNODES, node))["spec"]["mdevs"]
        assert (wish["domains"], wish["frozen"]) == ("4", True)
    await pause.at("")
    assert (await people.over("mover"))["status"]["phase"] == "Succeeded"
    assert (await outcome(people, await seen(people, "mover"), "Succeeded", "Alarm"))["phase"] == "Succeeded"
    await people.holds(target, uuid, "5", "4-5")
    await people.cluster.ready("revised")


async def test_a_permission_withdrawn_under_a_running_vm_lets_it_move_and_ends_with_it(people):
    uuid = await people.matrix("withdrawn")
    source = await people.boot("tenant", "withdrawn")
    await people.cluster.apply(matrix("withdrawn", adapters=[5], domains=[4], allowedNamespaces=["elsewhere"]))

    def observed(document):
        return document["status"].get("observedGeneration") == document["metadata"]["generation"]

    await people.cluster.until(MATRICES, "withdrawn", observed, "seen")
    assert await people.migrate("tenant") == "Succeeded"
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_tenant"]
    await people.cluster.plane.kubectl("delete", "vm", "tenant", "-n", BANK)
    label = "use.ap.s390x.io/withdrawn"
    await people.cluster.until(
        NAMESPACES, BANK, lambda d: label not in d["metadata"]["labels"], "without the label"
    )


async def test_a_matrix_changed_in_the_template_is_told_and_comes_with_the_restart(people):
    """KubeVirt sees no difference: it compares specs, and the matrix is an annotation."""
    uuid, other = await people.matrix("before"), await people.matrix("after", domains=[5])
    source = await people.boot("switch", "before")
    metadata = {"annotations": {"ap.s390x.io/matrix": "after"}}
    patch = json.dumps({"spec": {"template": {"metadata": metadata}}})
    await people.cluster.plane.kubectl("patch", "vm", "switch", "-n", BANK, "--type=merge", "-p", patch)
    message = await people.told("switch", "RestartRequired")
    assert "its template asks for matrix after, and it runs with matrix before" in message
    assert "virtctl restart switch -n bank" in message
    assert await people.migrate("switch") == "Succeeded"
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_switch"]
    vmi = await people.cluster.client.get(VMIS.within(BANK), "switch")
    await people.cluster.plane.kubectl("delete", "vmi", "switch", "-n", BANK)
    await people.cluster.until(
        VMIS.within(BANK),
        "switch",
        lambda d: d["metadata"]["uid"] != vmi["metadata"]["uid"] and d.get("status", {}).get("phase") == "Running",
        "running anew",
    )
    assert "bank_switch" in people.users(other).values()
    assert "bank_switch" not in people.users(uuid).values()
