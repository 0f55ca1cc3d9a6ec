"""Every move has an APMigration: asked for by a user, seen by the operator, refused, given up, or checked only."""

import asyncio
import contextlib

import pytest

from vfio_ap_kube.watch import follow
from vfio_ap_operator.requests import MOVES
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES
from vfio_ap_sim.controlplane import CommandFailedError

from .pause import NODES
from .people import BANK, vm

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


def request(name, vm, **spec):
    return {
        "apiVersion": MOVES.api_version,
        "kind": "APMigration",
        "metadata": {"name": name, "namespace": BANK},
        "spec": {"vm": vm, **spec},
    }


def by_hand(vm):
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": f"manual-{vm}", "namespace": BANK},
        "spec": {"vmiName": vm},
    }


async def seen(people, vm):
    """Return the name of the VM's first move, once the operator has made it."""
    changes = follow(people.cluster.client, MOVES.within(BANK))
    async with asyncio.timeout(40), contextlib.aclosing(changes):
        async for change in changes:
            if not change.synced and change.object["spec"]["vm"] == vm:
                return change.object["metadata"]["name"]
    raise AssertionError("a followed collection does not end")


async def outcome(people, name, *phases):
    """Return the status of a move once it is in one of the phases."""
    found = await people.cluster.until(
        MOVES.within(BANK), name, lambda d: d.get("status", {}).get("phase") in phases, " or ".join(phases)
    )
    return found["status"]


async def test_a_dry_run_says_where_the_vm_could_go_and_moves_nothing(people):
    uuid = await people.matrix("checked")
    source = await people.boot("prudent", "checked")
    await people.cluster.apply(request("what-if", "prudent", dryRun=True))
    status = await outcome(people, "what-if", "Checked")
    verdicts = {node["name"]: node for node in status["nodes"]}
    assert {name for name, node in verdicts.items() if node.get("mode")} == EQUAL - {source}
    assert "CCA" in verdicts["z-odd"]["message"]
    assert people.users(uuid) == {source: "bank_prudent"}


async def test_a_user_moves_a_vm_to_a_node_of_his_choice(people):
    uuid = await people.matrix("chosen")
    source = await people.boot("picky", "chosen")
    target = max(EQUAL - {source})
    await people.cluster.apply(request("there", "picky", node=target))
    status = await outcome(people, "there", "Succeeded", "Failed", "Alarm", "Refused")
    assert (status["phase"], status["source"], status["target"]) == ("Succeeded", source, target)
    assert {"Preparing", "Moving"} <= {entry["phase"] for entry in status["phases"]}
    await people.released(source)
    assert people.users(uuid) == {target: "bank_picky"}
    table = await people.cluster.plane.kubectl("get", "apmigrations", "-n", BANK)
    assert f"moved from {source} to {target}; device as meant" in table


@pytest.mark.parametrize(
    ("vm", "spec", "reason"),
    [
        ("stubborn", {"node": "z-odd"}, "NoTarget"),
        ("stubborn", {"node": "nosuch"}, "NoTarget"),
        ("absent", {}, "NoMatrix"),
    ],
)
async def test_a_move_that_can_succeed_nowhere_is_refused_with_its_reason(people, vm, spec, reason):
    uuid = await people.matrix("refused")
    source = await people.boot("stubborn", "refused")
    await people.cluster.apply(request("hopeless", vm, **spec))
    status = await outcome(people, "hopeless", "Refused")
    assert status["reason"] == reason
    assert status["remedy"]
    assert people.users(uuid) == {source: "bank_stubborn"}
    await people.cluster.plane.kubectl("delete", "apmigration", "hopeless", "-n", BANK)


async def test_a_vm_without_a_matrix_moves_as_ever_and_a_request_for_it_is_refused(people):
    plain = vm("plain", "none")
    plain["spec"]["template"]["metadata"] = {}
    await people.cluster.apply(plain)
    await people.running("plain")
    await people.cluster.apply(request("mistaken", "plain"))
    assert (await outcome(people, "mistaken", "Refused"))["reason"] == "NoMatrix"
    assert await people.migrate("plain") == "Succeeded"
    moves = (await people.cluster.client.listing(MOVES.within(BANK)))["items"]
    assert [move["metadata"]["name"] for move in moves if move["spec"]["vm"] == "plain"] == ["mistaken"]
    await people.cluster.plane.kubectl("delete", "apmigration", "mistaken", "-n", BANK)


async def test_of_a_vms_moves_that_have_ended_the_last_ten_are_kept(people):
    await people.matrix("remembered")
    await people.boot("forgetful", "remembered")
    names = [f"look-{number:02}" for number in range(12)]
    for name in names:
        await people.cluster.apply(request(name, "forgetful", dryRun=True))
    for name in names[:2]:
        await people.cluster.gone(MOVES.within(BANK), name)
    moves = (await people.cluster.client.listing(MOVES.within(BANK)))["items"]
    assert sorted(m["metadata"]["name"] for m in moves if m["spec"]["vm"] == "forgetful") == names[2:]
    await people.cluster.plane.kubectl("delete", "apmigration", *names[2:], "-n", BANK)


async def test_two_vms_leave_a_drained_node_for_one_target_side_by_side(people):
    uuids = {"left": await people.matrix("twin-left")}
    uuids["right"] = await people.matrix("twin-right", adapters=[6], domains=[7])
    sources = {name: await people.boot(name, f"twin-{name}") for name in uuids}
    assert set(sources.values()) == {"v1"}
    await people.cluster.plane.kubectl("cordon", "v3")
    assert "node/v1 drained" in await people.drain("v1", limit=90)
    await people.released("v1")
    for name, uuid in uuids.items():
        await people.running(name, {"v2"})
        assert people.users(uuid) == {"v2": f"bank_{name}"}


async def test_a_migration_by_hand_that_can_succeed_nowhere_is_refused_when_it_is_asked_for(people):
    uuid = await people.matrix("early")
    source = await people.boot("early-bird", "early")
    for node in EQUAL - {source}:
        await people.cluster.plane.kubectl("cordon", node)
    with pytest.raises(
        CommandFailedError, match=r"no node can take it: .*z-odd: .*CCA.*kubectl ap check"
    ) as refused:
        await people.migrate("early-bird")
    assert "denied the request" in str(refused.value)
    assert people.users(uuid) == {source: "bank_early-bird"}


async def test_ids_that_no_machine_gives_yet_are_held_in_advance_and_do_not_stand_in_the_way_of_a_move(people):
    """The kernel takes over what the guest had (L-11); what was held in advance is asked for again after."""
    uuid = await people.matrix("early-bird", adapters=[5, 77])
    source = await people.boot("farsighted", "early-bird")
    found = await people.cluster.client.get(MATRICES, "early-bird")
    (node,) = [node for node in found["status"]["nodes"] if node["name"] == source]
    assert (node["state"], node["reason"]) == ("Ready", "OverProvisioned")
    assert "no adapters 77 yet" in node["message"]
    await people.cluster.apply(request("onward", "farsighted"))
    status = await outcome(people, "onward", "Succeeded", "Alarm", "Failed", "Refused")
    assert status["phase"] == "Succeeded", status
    assert status["guest"] == {"adapters": "5", "domains": "4"}
    assert "device as meant, adapters 5 x domains 4, as the guest had it" in status["line"]

    def whole(document):
        held = [m for m in document["status"].get("mdevs", []) if m["uuid"] == uuid]
        return any((m["adapters"], m["guestAdapters"]) == ("5,77", "5") for m in held)

    await people.cluster.until(APNODES, status["target"], whole, "with the whole matrix")
    await people.released(source)


async def test_a_migration_by_hand_has_a_move_and_is_given_up_after_the_policys_limit(people, pause):
    policy = {
        "apiVersion": MOVES.api_version,
        "kind": "APMigrationPolicy",
        "metadata": {"name": "hasty"},
        "spec": {"timeLimits": {"hold": 5}},
    }
    await people.cluster.apply(policy)
    try:
        uuid = await people.matrix("hurried")
        source = await people.boot("waiter", "hurried")
        await pause.at(NODES)  # so no target can be prepared
        await people.cluster.apply(by_hand("waiter"))
        name = await seen(people, "waiter")
        status = await outcome(people, name, "Failed")
        assert (status["reason"], status["askedBy"], status["source"]) == ("WaitedTooLong", "user", source)
        assert "could not begin within 5 s" in status["message"]
        assert people.users(uuid) == {source: "bank_waiter"}
        policies = await people.cluster.plane.kubectl("get", "apmigrationpolicies")
        assert policies.splitlines()[1].split()[-2] == "Effective"
    finally:
        await people.cluster.plane.kubectl("delete", "apmigrationpolicy", "hasty")


async def test_the_second_of_two_moves_of_one_vm_is_refused(people, pause):
    await people.matrix("contended")
    source = await people.boot("popular", "contended")
    await pause.at(NODES)  # so the first stays where it is
    await people.cluster.apply(request("first-move", "popular"))
    await outcome(people, "first-move", "Preparing")
    await people.cluster.apply(request("second-move", "popular"))
    status = await outcome(people, "second-move", "Refused")
    assert (status["reason"], "first-move" in status["message"]) == ("MoveInFlight", True)
    await pause.at("")
    assert (await outcome(people, "first-move", "Succeeded", "Failed"))["phase"] == "Succeeded"
    await people.released(source)


SILENCED = "test-silenced"
SILENCING = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": SILENCED},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["coordination.k8s.io"],
                    "apiVersions": ["v1"],
                    "operations": ["UPDATE"],
                    "resources": ["leases"],
                }
            ]
        },
        "validations": [
            {
                "expression": "request.name != 'v3' || !request.userInfo.username.endsWith(':vfio-ap-agent')",
                "message": "the agent of v3 is silenced",
            }
        ],
    },
}
BINDING = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": SILENCED},
    "spec": {"policyName": SILENCED, "validationActions": ["Deny"]},
}


async def test_what_a_silent_agent_said_counts_no_more(people):
    await people.matrix("outdated")
    source = await people.boot("careful", "outdated")
    kubectl = people.cluster.plane.kubectl
    for document in (SILENCING, BINDING):
        await people.cluster.apply(document)
    try:
        await people.cluster.until(
            MATRICES, "outdated", lambda d: names_silent(d["status"], "v3"), "without v3", limit=120
        )
        await people.cluster.apply(request("where-now", "careful", dryRun=True))
        status = await outcome(people, "where-now", "Checked")
        verdicts = {node["name"]: node.get("reason") for node in status["nodes"]}
        assert verdicts["v3"] == "NodeSilent"
        assert source != "v3"
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            await kubectl("delete", kind, SILENCED)
    await people.cluster.until(
        MATRICES, "outdated", lambda d: not names_silent(d["status"], "v3"), "with v3 again", limit=60
    )


def names_silent(status, node):
    return any(n["name"] == node and n.get("reason") == "NodeSilent" for n in status.get("nodes", ()))
