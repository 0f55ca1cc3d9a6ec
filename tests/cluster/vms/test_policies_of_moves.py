"""Policies that select nothing, or contradict each other, say so; by the one that stands is acted."""

import pytest

from vfio_ap_operator.reconcile import POLICIES

from .test_moves import outcome, request

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def rule(people, name, state, **spec):
    """Make a policy and return its status once its state is this."""
    metadata = {"name": name}
    await people.cluster.apply(
        {"apiVersion": POLICIES.api_version, "kind": "APMigrationPolicy", "metadata": metadata, "spec": spec}
    )
    return await standing(people, name, state)


async def standing(people, name, state):
    found = await people.cluster.until(POLICIES, name, lambda d: d.get("status", {}).get("state") == state, state)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    (word,) = found["status"]["conditions"]
    assert (word["type"], word["status"], word["reason"]) == ("Effective", str(state == "Effective"), state)
    return found["status"]


async def may_move(people, name):
    """Ask by a dry run and return the reasons for which the VM may not move, by node."""
    await people.cluster.apply(request(name, "ruled", dryRun=True))
    return {node["name"]: node.get("reason") for node in (await outcome(people, name, "Checked"))["nodes"]}


async def test_of_two_that_contradict_each_other_the_older_stands_and_one_that_selects_nothing_says_so(people):
    await people.matrix("under-rule")
    kubectl, names = people.cluster.plane.kubectl, ["z-older", "a-newer", "aimless"]
    try:
        assert (await rule(people, "z-older", "Effective", modes=["Live"]))["matrices"] == 1
        source = await people.boot("ruled", "under-rule")
        status = await rule(people, "a-newer", "Overruled", modes=["Reattach"])
        assert status["matrices"] == 0
        assert "under another policy, z-older among them" in status["conditions"][0]["message"]
        assert "no APMatrix has the labels" in str(
            (await rule(people, "aimless", "SelectsNothing", selector={"tier": "nosuch"}))["conditions"]
        )
        verdicts = await may_move(people, "under-the-older")
        assert {verdicts[node] for node in {"v1", "v2", "v3"} - {source}} == {None}
        await kubectl("delete", "apmigrationpolicy", "z-older")
        assert (await standing(people, "a-newer", "Effective"))["matrices"] == 1
        verdicts = await may_move(people, "under-the-newer")
        assert {verdicts[node] for node in {"v1", "v2", "v3"} - {source}} == {"ModeNotAllowed"}
    finally:
        await kubectl("delete", "apmigrationpolicy", *names, "--ignore-not-found")
