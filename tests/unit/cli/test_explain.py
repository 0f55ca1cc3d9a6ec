"""kubectl ap explain: what holds each kind of object, and what to do."""

import json

import pytest

from .world import (
    NOW,
    OTHER,
    apnode,
    cluster,
    device,
    kubevirt,
    lease,
    matrix,
    meta,
    pod,
    replaced,
    vm,
    vmi,
    without,
)


def explained(ap, documents, name):
    done = ap(documents, "explain", name, "-n", "bank", "-o", "json")
    return done.exit_code, json.loads(done.stdout)


def reasons(found):
    return [refusal["reason"] for refusal in found["holds"]]


def waiting():
    return [*cluster(), vm("second", "payments"), vmi("second", "payments", phase="Scheduling"), second()]


def second(**more):
    return pod("second", "payments", gated=True, **more)


def event(kind, name, reason, message, component="vfio-ap-operator", namespace="bank", type="Normal"):
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": meta(f"{name}.{reason}", namespace),
        "involvedObject": {"kind": kind, "name": name, **({"namespace": namespace} if kind != "APMatrix" else {})},
        "type": type,
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-21T11:58:00Z",
        "source": {"component": component},
    }


@pytest.mark.parametrize("name", ["pod/virt-launcher-second-abcde", "vm/second", "vmi/second"])
def test_a_vm_whose_matrix_is_taken(ap, name):
    code, found = explained(ap, waiting(), name)
    assert (code, reasons(found)) == (1, ["MatrixInUse"])
    assert "stop that VM, or give this one a matrix of its own" in found["next"]


@pytest.mark.parametrize("name", ["vm/ledger", "pod/virt-launcher-ledger-abcde", "apm/payments", "apn/lnx1"])
def test_what_is_well_is_held_by_nothing(ap, name):
    code, found = explained(ap, cluster(), name)
    assert (code, found["holds"]) == (0, [])
    assert "nothing holds it" in ap(cluster(), "explain", name, "-n", "bank").stdout


def test_who_has_the_matrix_is_not_held_by_who_waits(ap):
    assert explained(ap, waiting(), "pod/virt-launcher-ledger-abcde")[0] == 0


def test_a_gate_that_may_go(ap):
    ready = [d for d in waiting() if "ledger" not in d.get("metadata", {}).get("name", "")]
    free = apnode("lnx1", mdevs=[device("payments", "11111111-1111-5111-8111-111111111111", "5", "4")])
    code, found = explained(ap, replaced(ready, free), "pod/virt-launcher-second-abcde")
    assert (code, found["says"]) == (0, "its gate may be lifted now; the operator does it at once if it runs")


def test_a_gate_that_may_go_and_nobody_leads(ap):
    ready = [d for d in waiting() if "ledger" not in d.get("metadata", {}).get("name", "")]
    free = apnode("lnx1", mdevs=[device("payments", "11111111-1111-5111-8111-111111111111", "5", "4")])
    documents = without(replaced(ready, free), "Lease", "vfio-ap-operator")
    assert reasons(explained(ap, documents, "pod/virt-launcher-second-abcde")[1]) == ["NoOperator"]


def test_a_guard_holds_a_pod(ap):
    ready = [d for d in waiting() if "ledger" not in d.get("metadata", {}).get("name", "")]
    unsafe = kubevirt(mediatedDevicesConfiguration={})
    code, found = explained(ap, replaced(ready, unsafe), "pod/virt-launcher-second-abcde")
    assert (code, reasons(found)) == (1, ["KubeVirtUnsafe"])
    assert any(step.startswith("kubectl patch kubevirt") for step in found["next"])


def test_a_pod_that_fits_nowhere_has_a_reason_per_node(ap):
    picky = second(nodeSelector={"zone": "nowhere"})
    ready = [d for d in replaced(waiting(), picky) if "ledger" not in d.get("metadata", {}).get("name", "")]
    free = apnode("lnx1")
    _, found = explained(ap, replaced(ready, free), "pod/virt-launcher-second-abcde")
    assert reasons(found) == ["NoNode"]
    assert len([note for note in found["notes"] if "zone=nowhere" in note]) == 3


def test_a_pod_without_a_matrix(ap):
    plain = pod("web", "payments")
    plain["metadata"]["labels"] = {}
    assert explained(ap, [*cluster(), plain], "pod/virt-launcher-web-abcde")[1]["says"].startswith(
        "it asks for no"
    )


def test_a_refused_matrix(ap):
    greedy = matrix("greedy", [5], [4], uuid="", created="2026-11-21T12:01:00Z")
    code, found = explained(ap, [*cluster(), greedy], "apmatrix/greedy")
    assert (code, reasons(found), found["says"]) == (1, ["Overlap"], "Refused (Overlap)")


def test_a_matrix_that_is_going_waits_for_its_vm(ap):
    going = matrix("payments", [5], [4])
    going["metadata"]["deletionTimestamp"] = NOW
    assert (
        "it goes once bank/ledger has stopped"
        in explained(ap, replaced(cluster(), going), "apm/payments")[1]["says"]
    )


def test_a_node_whose_agent_is_silent(ap):
    code, found = explained(ap, replaced(cluster(), lease("lnx2", renewed="2026-11-21T11:00:00Z")), "apn/lnx2")
    assert (code, reasons(found)) == (1, ["NodeSilent"])
    assert "spec.nodeName=lnx2" in found["next"][0]


def test_a_device_that_is_not_ready_holds_its_node(ap):
    broken = device("vault", OTHER, "6", "5", state="Failed", message="queue 06.0005 is in mdev x")
    code, found = explained(ap, replaced(cluster(), apnode("lnx2", mdevs=[broken])), "apnode/lnx2")
    assert (code, found["holds"][0]["message"]) == (1, "queue 06.0005 is in mdev x")


@pytest.mark.parametrize(
    ("kinds", "reason", "message"),
    [
        (("Ready", "DriverLoaded"), "DriverNotLoaded", "vfio_ap is not loaded; modprobe vfio_ap"),
        (("Applied",), "HostReserved", "05.0004: is wanted and reserved for the host"),
    ],
)
def test_a_condition_that_is_false_holds_its_node(ap, kinds, reason, message):
    conditions = [
        {"type": kind, "status": "False", "reason": reason, "message": message, "lastTransitionTime": NOW}
        for kind in kinds
    ]
    code, found = explained(ap, replaced(cluster(), apnode("lnx2", conditions=conditions)), "apnode/lnx2")
    assert (code, reasons(found), found["holds"][0]["message"]) == (1, [reason], message)
    assert not [note for note in found["notes"] if reason in note], "said once"


def test_a_vm_in_a_namespace_that_is_not_allowed(ap):
    other = matrix("payments", [5], [4], allowedNamespaces=["shop"])
    documents = without(without(replaced(cluster(), other), "Pod"), "VirtualMachineInstance")
    assert reasons(explained(ap, documents, "vm/ledger")[1]) == ["NamespaceNotAllowed"]


def test_a_vm_of_a_matrix_that_does_not_exist(ap):
    assert reasons(explained(ap, without(cluster(), "APMatrix"), "vm/ledger")[1])[0] == "NoSuchMatrix"


def test_a_vm_that_must_be_restarted(ap):
    changed = vm("ledger", "archive")
    code, found = explained(ap, replaced(cluster(), changed), "vm/ledger")
    assert (code, reasons(found)) == (1, ["RestartRequired"])
    assert "virtctl restart ledger -n bank" in found["next"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("operation failed: nobody knows this one", "MigrationFailed"),
        ("cannot migrate domain: 0000:00: Migration is disabled for VFIO device", "MigrationDisabled"),
    ],
)
def test_a_migration_that_failed_says_why(ap, said, reason):
    failed = vmi("ledger", "payments", "lnx1")
    failed["status"]["migrationState"] = {"failed": True, "failureReason": said}
    code, found = explained(ap, replaced(cluster(), failed), "vm/ledger")
    assert (code, reasons(found)) == (1, [reason])
    assert found["holds"][0]["message"].startswith("its last migration failed: ")


def test_a_migration_that_failed_says_what_the_target_s_kernel_said_of_it(ap):
    failed = vmi("ledger", "payments", "lnx1")
    errno = "operation failed: load of migration failed: Invalid argument"
    failed["status"]["migrationState"] = {"failed": True, "failureReason": errno, "migrationUid": "m1"}
    why = move("Failed", reason="FacilityDiffers", message="queue 05.0004: APSC", migrationUid="m1")
    _, found = explained(ap, [*replaced(cluster(), failed), why], "vm/ledger")
    assert reasons(found) == ["FacilityDiffers"]
    assert found["holds"][0]["message"] == "its last migration failed: queue 05.0004: APSC"
    why["status"]["migrationUid"] = "m0"
    assert reasons(explained(ap, [*replaced(cluster(), failed), why], "vm/ledger")[1]) == ["QueueNotCompatible"]


def test_a_node_shows_what_its_kernel_said_in_a_move(ap):
    said = [{"uuid": "u1", "lines": ["vfio_ap_mdev u1: Queue 05.0004 not available"]}]
    shown = ap(replaced(cluster(), apnode("lnx2", kernelLog=said)), "explain", "apnode/lnx2").stdout
    assert "the kernel said in a move: vfio_ap_mdev u1: Queue 05.0004 not available" in shown


def move(phase="Waiting", **status):
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMigration",
        "metadata": meta("ledger-1", "bank"),
        "spec": {"vm": "ledger"},
        "status": {"phase": phase, "line": "on lnx1; no node can take it", "matrix": "payments", **status},
    }


def test_a_move_that_waits(ap):
    waits = move(reason="NoTarget", message="no node can take it", remedy="give a node what is missing")
    code, found = explained(ap, [*cluster(), waits], "apmig/ledger-1")
    assert (code, reasons(found), found["next"][0]) == (1, ["NoTarget"], "give a node what is missing")
    assert "APMigration ledger-1: Waiting" in ap([*cluster(), waits], "explain", "vm/ledger", "-n", "bank").stdout


def test_a_move_that_succeeded(ap):
    assert explained(ap, [*cluster(), move("Succeeded")], "apmigration/ledger-1")[0] == 0


def test_a_policy_that_stands_for_nothing(ap):
    policy = {"kind": "APMigrationPolicy", "metadata": meta("p"), "spec": {"selector": {"a": "b"}}}
    assert reasons(explained(ap, [*cluster(), policy], "apmp/p")[1]) == ["SelectsNothing"]


def test_events_are_ours_and_warnings_the_newest_last(ap):
    ours = event("VirtualMachineInstance", "ledger", "Evacuating", "to lnx2")
    theirs = event("VirtualMachineInstance", "ledger", "Started", "by kubevirt", component="virt-handler")
    warning = event("Pod", "virt-launcher-ledger-abcde", "FailedMount", "x", component="kubelet", type="Warning")
    warning["lastTimestamp"] = "2026-11-21T11:59:00Z"
    other = event("VirtualMachineInstance", "other", "Evacuating", "to lnx3")
    _, found = explained(ap, [*cluster(), warning, ours, theirs, other], "vm/ledger")
    assert [(e["reason"], e["age"]) for e in found["events"]] == [("Evacuating", "2m"), ("FailedMount", "60s")]


def test_events_of_one_second_are_in_the_order_in_which_they_were_written(ap):
    told = [event("VirtualMachineInstance", "ledger", reason, "x") for reason in ("Third", "First", "Second")]
    for serial, item in zip(("1000", "98", "99"), told, strict=True):
        item["metadata"]["resourceVersion"] = serial
    _, found = explained(ap, [*cluster(), *told], "vm/ledger")
    assert [e["reason"] for e in found["events"]] == ["First", "Second", "Third"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["vm/nosuch"], 1, "there is no vm nosuch in namespace bank"),
        (["nonsense/x"], 2, "is not an object"),
        (["x"], 2, "is not"),
    ],
)
def test_what_there_is_not(ap, words, code, text):
    done = ap(cluster(), "explain", *words, "-n", "bank")
    assert done.exit_code == code
    assert text in done.stderr
