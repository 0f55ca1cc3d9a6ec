"""The mover against a played API server that keeps what it was told: what is written, and what not again."""

import itertools
from dataclasses import replace

import pytest

from vfio_ap.fleet.gate import Situation, plan_gate
from vfio_ap_kube.client import ApiError
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.moveplanner import MovePlanner
from vfio_ap_operator.mover import Mover

from ..core.test_gate import PAY, node, ready

SERIAL = itertools.count(1)
MATRIX = {
    "metadata": {"name": "pay", "uid": "m", "generation": 1, "resourceVersion": "1"},
    "spec": {"adapters": [5], "domains": [4], "allowedNamespaces": ["bank"]},
    "status": {"uuid": "u1"},
}


class Api:
    """Stands for the client."""

    def __init__(self):
        self.made, self.applied, self.deleted, self.restarts = [], [], [], []
        self.refusing = None
        self.instance = {"metadata": {"uid": "vmi1"}}

    async def create(self, resource, document):
        if self.refusing and resource.plural == "virtualmachineinstancemigrations":
            raise self.refusing
        metadata = {"name": document["metadata"].get("generateName", ""), **document["metadata"]}
        metadata |= {
            "uid": f"uid-{next(SERIAL)}",
            "generation": 1,
            "creationTimestamp": f"2026-01-{len(self.made):02}",
        }
        self.made.append({**document, "metadata": metadata})
        return self.made[-1]

    async def apply(self, resource, document, *, subresource=""):
        self.applied.append(document)
        whole = next((m for m in self.made if m["metadata"]["uid"] == document["metadata"]["uid"]), {})
        return {**whole, **document, "metadata": {**whole.get("metadata", {}), **document["metadata"]}}

    async def delete(self, resource, name):
        self.deleted.append(name)

    async def get(self, resource, name):
        return self.instance

    async def request(self, method, path, *, body, accept):
        if self.refusing:
            raise self.refusing
        # What is asked must be known by then, or it would be asked twice after a crash
        assert self.applied[-1]["status"]["phase"] == "Restarting"
        self.restarts.append((method, path, body, accept))


class Events:
    """Stands for the poster."""

    def __init__(self):
        self.said = []

    async def post(self, about, kind, reason, message):
        self.said.append((about["kind"], reason))


def vmi(**status):
    status = {
        "phase": "Running",
        "nodeName": "n1",
        "conditions": [{"type": "LiveMigratable", "status": "True"}],
    } | status
    metadata = {"name": "ledger", "namespace": "bank", "uid": "vmi1", "annotations": {"ap.s390x.io/matrix": "pay"}}
    return {"metadata": metadata, "spec": {"evictionStrategy": "External"}, "status": status}


def pod(**spec):
    labels = {"ap.s390x.io/matrix": "pay", "kubevirt.io/created-by": "vmi1", "vm.kubevirt.io/name": "ledger"}
    metadata = {"name": "launcher", "namespace": "bank", "uid": "p1", "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": "n1", **spec}}


def request(uid="r1", **spec):
    metadata = {"name": f"ask-{uid}", "namespace": "bank", "uid": uid, "generation": 1, "creationTimestamp": uid}
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMigration",
        "metadata": metadata,
        "spec": {"vm": "ledger", **spec},
    }


@pytest.fixture
def stage():
    fleet, api, events = Fleet(), Api(), Events()
    fleet.observe_matrix(MATRIX)
    fleet.work.complete = True
    fleet.work.observe_pod(pod())
    fleet.views |= {"n1": ready("n1"), "n2": ready("n2")}
    planner = MovePlanner(fleet)
    return fleet, api, events, Mover(fleet, api, events, planner), planner


async def turn(stage, waited=None):
    """Decide and write once, as the reconciler does; return what the nodes must hold."""
    fleet, _, _, mover, planner = stage
    situation = Situation(PAY, None, fleet.views, fleet.policy_for(PAY), waited=waited or {})
    plan = plan_gate(situation, fleet.work.pods.get("pay", {}).values())
    needs = planner.decide(situation, plan)
    if "pay" in planner.busy:
        await mover.act("pay")
    await mover.settle_strays()
    return needs


async def test_a_marked_vm_gets_one_move_and_one_migration_however_often_it_is_looked_at(stage):
    fleet, api, events, *_ = stage
    fleet.work.observe_vm(vmi(evacuationNodeName="n1"))
    for _ in range(4):
        await turn(stage)
    assert [made["kind"] for made in api.made] == ["APMigration", "VirtualMachineInstanceMigration"]
    migration = api.made[1]
    assert migration["spec"] == {"vmiName": "ledger", "addedNodeSelector": {"kubernetes.io/hostname": "n2"}}
    assert migration["metadata"]["annotations"]["kubevirt.io/evacuationMigration"] == "n1"
    assert ("VirtualMachineInstance", "Evacuating") in events.said
    writes = len(api.applied)
    await turn(stage)
    assert len(api.applied) == writes, "nothing changed, so nothing is written"


async def test_a_vm_whose_evictions_are_not_ours_is_left_to_kubevirt(stage):
    fleet, api, *_ = stage
    document = vmi(evacuationNodeName="n1")
    document["spec"] = {"evictionStrategy": "LiveMigrate"}
    fleet.work.observe_vm(document)
    await turn(stage)
    assert api.made == []


async def test_a_migration_that_somebody_else_asked_for_is_followed(stage):
    fleet, api, *_ = stage
    fleet.work.observe_vm(vmi())
    metadata = {"name": "by-hand", "namespace": "bank", "uid": "mig1"}
    fleet.work.observe_migration(
        {"metadata": metadata, "spec": {"vmiName": "ledger"}, "status": {"phase": "Scheduling"}}
    )
    for _ in range(3):
        await turn(stage)
    (made,) = api.made
    assert made["metadata"]["annotations"]["ap.s390x.io/migration-uid"] == "mig1"
    (move,) = fleet.work.moves.values()
    assert (move.status.phase, move.status.migration, move.status.source) == ("Waiting", "by-hand", "n1")


async def test_a_move_whose_status_is_behind_its_migration_is_in_flight(stage):
    """As after a kill right after the hold was lifted: thawed now, the device would be repaired unseen."""
    fleet, *_, planner = stage
    fleet.work.observe_vm(vmi())
    metadata = {"name": "by-hand", "namespace": "bank", "uid": "mig1"}
    migration = {"metadata": metadata, "spec": {"vmiName": "ledger"}}
    fleet.work.observe_migration(migration | {"status": {"phase": "Scheduling"}})
    await turn(stage)
    assert not planner.in_flight("pay")
    fleet.work.observe_migration(migration | {"status": {"phase": "Succeeded"}})
    assert planner.in_flight("pay")


async def test_the_second_of_two_requests_for_one_vm_is_refused(stage):
    fleet, api, *_ = stage
    fleet.work.observe_vm(vmi())
    fleet.work.observe_move(request("r1"))
    fleet.work.observe_move(request("r2"))
    await turn(stage)
    said = {document["metadata"]["name"]: document["status"] for document in api.applied}
    assert said["ask-r2"]["reason"] == "MoveInFlight"
    assert "ask-r1" in said["ask-r2"]["message"]
    assert said["ask-r1"]["phase"] == "Preparing"


async def test_a_request_for_a_vm_that_is_not_known_is_refused_once_all_are_known(stage):
    fleet, api, *_ = stage
    fleet.work.complete = False
    fleet.work.observe_move(request())
    await turn(stage)
    assert api.applied == []
    fleet.work.complete = True
    await turn(stage)
    assert api.applied[0]["status"]["reason"] == "NoMatrix"


async def test_what_kubevirt_refuses_is_told_and_asked_again_later(stage):
    fleet, api, events, *_ = stage
    fleet.work.observe_vm(vmi())
    fleet.work.observe_move(request())
    api.refusing = ApiError(422, "Invalid", "in-flight migration detected")
    await turn(stage)
    await turn(stage)
    assert events.said.count(("VirtualMachineInstance", "MigrationRefused")) == 1


async def test_a_target_is_prepared_before_kubevirt_is_asked(stage):
    fleet, api, *_ = stage
    fleet.views["n2"] = node("n2")
    fleet.work.observe_vm(vmi())
    fleet.work.observe_move(request())
    assert (await turn(stage)).prepare == {"n2"}
    assert api.made == []


async def test_of_moves_that_have_ended_only_some_are_kept(stage):
    fleet, api, *_ = stage
    fleet.work.observe_vm(vmi())
    for number in range(12):
        fleet.work.observe_move(request(f"r{number:02}") | {"status": {"phase": "Failed"}})
    api.made.append(request("r99", node="nosuch"))
    fleet.work.observe_move(api.made[-1])
    await turn(stage)
    assert api.deleted == ["ask-r00", "ask-r01", "ask-r02"]


async def test_what_was_prepared_stays_until_the_target_pod_asks_for_it(stage):
    fleet, *_ = stage
    fleet.work.observe_vm(vmi(evacuationNodeName="n1"))
    await turn(stage)  # the move is made
    assert (await turn(stage)).prepare == {"n2"}  # and then asked of KubeVirt
    assert (await turn(stage)).prepare == {"n2"}, "or the device would go and come again"


async def test_a_move_goes_with_its_virtual_machine_and_not_with_one_run_of_it(stage):
    fleet, api, *_ = stage
    document = vmi(evacuationNodeName="n1")
    document["metadata"]["ownerReferences"] = [{"kind": "VirtualMachine", "name": "ledger", "uid": "vm1"}]
    fleet.work.observe_vm(document)
    await turn(stage)
    (owner,) = api.made[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("VirtualMachine", "vm1")


async def test_a_move_that_was_deleted_before_it_had_a_migration_uses_no_budget(stage):
    fleet, api, *_ = stage
    fleet.work.observe_vm(vmi())
    api.refusing = ApiError(0, "Unreachable", "no answer")
    for number in range(3):  # more than may leave one node at once
        document = request(f"r{number}")
        fleet.work.observe_move(document)
        with pytest.raises(ApiError):
            await turn(stage)
        fleet.work.forget_move(document)
    api.refusing = None
    fleet.work.observe_move(request("r9"))
    await turn(stage)
    assert [made["kind"] for made in api.made] == ["VirtualMachineInstanceMigration"]


async def test_the_target_of_a_failed_move_keeps_its_device_until_its_kernel_has_been_asked(stage):
    fleet, *_, planner = stage
    fleet.work.observe_vm(vmi())
    failed = {"phase": "Failed", "migrationState": {"targetNode": "n2", "failureReason": "no"}}
    document = {"metadata": {"name": "mig", "namespace": "bank", "uid": "mig1"}, "spec": {"vmiName": "ledger"}}
    fleet.work.observe_migration({**document, "status": {"phase": "Running"}})
    await turn(stage)
    (move,) = fleet.work.moves.values()
    status = replace(move.status, phase="Moving", source="n1", target="n2", migration="mig", migration_uid="mig1")
    fleet.work.moves[move.uid] = replace(move, status=status)
    fleet.work.observe_migration({**document, "status": failed})

    needs = await turn(stage)
    assert needs.prepare == {"n2"}
    assert planner.read_back("n2") == {"mig1"}
    assert "n2" in fleet.dirty_nodes
    ((key, limit),) = ((key, needs.patience) for key in needs.timed)
    assert limit > 0

    needs = await turn(stage, waited={key: limit})
    assert (needs.prepare, planner.read_back("n2")) == (frozenset(), frozenset())
    (move,) = fleet.work.moves.values()
    assert move.status.phase == "Failed"


@pytest.fixture
def restartable(stage):
    fleet, api, *_ = stage
    fleet.observe_policy({"metadata": {"name": "p", "generation": 1}, "spec": {"modes": ["Restart"]}})
    document = vmi()
    document["metadata"]["ownerReferences"] = [{"kind": "VirtualMachine", "name": "ledger-vm", "uid": "vm1"}]
    fleet.work.observe_vm(document)
    api.made.append(request())
    fleet.work.observe_move(api.made[0])
    return stage


async def test_a_vm_is_restarted_once_and_only_after_that_was_written(restartable):
    fleet, api, events, *_ = restartable
    for _ in range(3):
        needs = await turn(restartable)
    path = "/apis/subresources.kubevirt.io/v1/namespaces/bank/virtualmachines/ledger-vm/restart"
    assert api.restarts == [("PUT", path, {}, "*/*")], "virt-api answers with nothing, of no type"
    assert ("VirtualMachineInstance", "Restarting") in events.said
    assert (needs.prepare, fleet.work.bound("pay")) == ({"n2"}, "n2")
    assert fleet.work.traffic().total == 1, "it counts against the budgets"


@pytest.mark.parametrize("instance", [{"uid": "vmi1", "deletionTimestamp": "now"}, {"uid": "vmi2"}])
async def test_an_operator_that_comes_back_does_not_stop_what_has_been_stopped(restartable, instance):
    _, api, *_ = restartable
    api.instance = {"metadata": instance}
    for _ in range(2):
        await turn(restartable)
    assert api.restarts == []


async def test_a_restart_that_kubevirt_refuses_is_told_and_asked_again_later(restartable):
    _, api, events, *_ = restartable
    api.refusing = ApiError(409, "Conflict", "VM is not running")
    for _ in range(3):
        await turn(restartable)
    assert events.said.count(("VirtualMachineInstance", "RestartRefused")) == 1


async def test_a_restart_goes_on_while_the_vm_is_gone_and_ends_when_it_takes_too_long(restartable):
    fleet, *_ = restartable
    for _ in range(2):
        await turn(restartable)
    fleet.work.forget_vm(vmi())
    needs = await turn(restartable)
    (move,) = fleet.work.moves.values()
    assert (move.status.phase, needs.prepare) == ("Restarting", {"n2"})
    ((key, limit),) = ((key, needs.patience) for key in needs.timed)
    await turn(restartable, waited={key: limit})
    (move,) = fleet.work.moves.values()
    assert (move.status.phase, move.status.refusal.reason) == ("Failed", "RestartTooLong")
    assert fleet.work.bound("pay") == "", "it starts wherever it can"
