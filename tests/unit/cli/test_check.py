"""kubectl ap check: the operator's verdict and the pod's placing, node by node."""

import json

import pytest

from .world import (
    UUID,
    adapter,
    apnode,
    cluster,
    device,
    kubevirt,
    lease,
    matrix,
    node,
    pod,
    replaced,
    vm,
    vmi,
    without,
)


def rows(ap, documents, *words):
    done = ap(documents, "check", "vm/ledger", "-n", "bank", *words, "-o", "json")
    answer = json.loads(done.stdout)
    return done.exit_code, {n["node"]: n for n in answer["nodes"]}, answer


def reasons(item):
    return [r["reason"] for r in item["refusals"]]


def test_each_node_and_why_not(ap):
    code, nodes, answer = rows(ap, cluster())
    assert code == 0
    assert (nodes["lnx2"]["answer"], nodes["lnx2"]["modes"]) == ("can move here", ["Live"])
    assert nodes["lnx1"]["answer"] == "runs here"
    assert nodes["lnx3"]["answer"] == "cannot"
    assert (answer["vm"], answer["source"], answer["matrix"]) == ("bank/ledger", "lnx1", "payments")


def test_the_page_names_queue_and_both_values(ap):
    done = ap(cluster(), "check", "vm/ledger", "-n", "bank", columns=300)
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("lnx3")]
    assert "queue 05.0004" in line
    assert "CCA" in line
    assert "EP11" in line


def test_what_can_comes_first(ap):
    done = ap(cluster(), "check", "vm/ledger", "-n", "bank", columns=300)
    table = done.stdout[done.stdout.index("NODE") :].splitlines()[1:]
    assert [line.split()[0] for line in table] == ["lnx2", "lnx3", "lnx1"]


def test_names_for_scripts(ap):
    assert ap(cluster(), "check", "vm/ledger", "-n", "bank", "-o", "name").stdout == "node/lnx2\n"


def test_one_node_with_every_reason(ap):
    done = ap(cluster(), "check", "ledger", "-n", "bank", "--node", "lnx3")
    assert done.exit_code == 1
    assert "lnx2" not in done.stdout


def test_a_cordoned_node(ap):
    cordoned = node("lnx2", taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])
    code, nodes, _ = rows(ap, replaced(cluster(), cordoned))
    assert (code, reasons(nodes["lnx2"])) == (1, ["NotSchedulable"])


def test_a_vms_selector(ap):
    fixed = pod("ledger", "payments", "lnx1", nodeSelector={"zone": "archive"})
    assert reasons(rows(ap, replaced(cluster(), fixed))[1]["lnx2"]) == ["NotSchedulable"]


def test_the_pin_of_the_last_move_does_not_count(ap):
    arrived = pod(
        "ledger",
        "payments",
        "lnx1",
        nodeSelector={"kubernetes.io/hostname": "lnx1"},
        labels={"kubevirt.io/migrationJobUID": "m1"},
    )
    assert rows(ap, replaced(cluster(), arrived))[1]["lnx2"]["answer"] == "can move here"


def test_a_device_that_was_made_for_more_than_the_guest_has_is_made_anew_for_the_move(ap):
    """Under the first version of the kernel's code guest and device must be alike; the operator sees to it."""
    v1 = {"kernel": {"release": "7.2.0", "liveMigration": "v1", "maxAdapter": 255, "maxDomain": 255}}
    filtered = device("payments", UUID, "5-6", "4", guestAdapters="5", state="Incomplete", inUse=True)
    source = apnode("lnx1", mdevs=[filtered], **v1)
    target = apnode("lnx2", mdevs=[device("payments", UUID, "5-6", "4")], machine="B2002", **v1)
    wide = matrix("payments", [5, 6], [4])
    code, nodes, _ = rows(ap, replaced(cluster(), source, target, wide))
    assert (code, nodes["lnx2"]["answer"], reasons(nodes["lnx2"])) == (0, "can move here", [])


def test_a_silent_agent_is_unknown_and_so_a_no(ap):
    code, nodes, _ = rows(ap, replaced(cluster(), lease("lnx2", renewed="2026-11-21T11:00:00Z")))
    assert (code, reasons(nodes["lnx2"])) == (1, ["NodeSilent"])


def other_keys():
    other = apnode("lnx2", [adapter(5, keys="k2"), adapter(6)], machine="B2002")
    other["status"]["keySets"].append({"name": "k2", "patterns": {"AES CUR": "0x" + "9" * 32}})
    return replaced(cluster(), other)


def policy(**spec):
    metadata = {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "ap.s390x.io/v1alpha1", "kind": "APMigrationPolicy", "metadata": metadata, "spec": spec}


def test_other_master_keys_are_a_warning_by_default(ap):
    code, nodes, _ = rows(ap, other_keys())
    assert code == 0
    assert nodes["lnx2"]["warnings"][0]["reason"] == "KeysDiffer"


def test_and_a_no_under_a_policy_that_requires_them(ap):
    code, nodes, answer = rows(ap, [*other_keys(), policy(masterKeys="Require")])
    assert (code, answer["policy"], reasons(nodes["lnx2"])[0]) == (1, "p", "KeysDiffer")


def test_a_mode_that_the_policy_does_not_allow_can_be_asked_about(ap):
    code, nodes, _ = rows(ap, cluster(), "--mode", "Restart")
    assert code == 0
    assert (nodes["lnx2"]["modes"], nodes["lnx2"]["answer"]) == (["Restart"], "by hand")


def test_what_the_operator_does_not_carry_out_is_no_yes(ap):
    documents = [*cluster(), policy(modes=["Reattach"])]
    code, nodes, _ = rows(ap, documents)
    assert (code, nodes["lnx2"]["answer"], nodes["lnx3"]["answer"]) == (1, "by hand", "cannot")
    assert "not carried out" in ap(documents, "check", "vm/ledger", "-n", "bank").stdout
    assert ap(documents, "check", "vm/ledger", "-n", "bank", "-o", "name").stdout == ""


def owned():
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "ledger", "uid": "uid-ledger-vm"}
    found = vmi("ledger", "payments", "lnx1")
    found["metadata"]["ownerReferences"] = [owner]
    return found


def test_a_vm_that_may_be_restarted_can_move_to_a_kernel_that_migrates_nothing(ap):
    bare = apnode("lnx2", machine="B2002", kernel={"liveMigration": "no", "maxAdapter": 255, "maxDomain": 255})
    documents = [*replaced(cluster(), owned(), bare), policy(modes=["Live", "Restart"])]
    code, nodes, _ = rows(ap, documents)
    assert (code, nodes["lnx2"]["answer"], nodes["lnx2"]["modes"]) == (0, "can move here", ["Restart"])
    assert nodes["lnx3"]["answer"] == "cannot", "another mode of adapter is no use after a restart either"
    nobodys = [*replaced(cluster(), bare), policy(modes=["Live", "Restart"])]
    assert rows(ap, nobodys)[1]["lnx2"]["answer"] == "by hand"


def test_what_kubevirt_would_not_migrate_may_be_restarted(ap):
    stuck = owned()
    stuck["status"]["conditions"] = [
        {"type": "LiveMigratable", "status": "False", "reason": "DisksNotLiveMigratable"}
    ]
    documents = [*replaced(cluster(), stuck), policy(modes=["Restart"])]
    code, nodes, answer = rows(ap, documents)
    assert (code, nodes["lnx2"]["answer"], answer["obstacles"]) == (0, "can move here", [])


def test_a_secure_guest_never_moves_live(ap):
    secure = vmi("ledger", "payments", "lnx1")
    secure["spec"]["domain"]["launchSecurity"] = {}
    code, nodes, _ = rows(ap, replaced(cluster(), secure))
    assert (code, reasons(nodes["lnx2"])[0]) == (1, "SecureExecution")


def test_what_kubevirt_would_not_migrate(ap):
    stuck = vmi("ledger", "payments", "lnx1")
    stuck["status"]["conditions"] = [
        {"type": "LiveMigratable", "status": "False", "reason": "DisksNotLiveMigratable", "message": "not shared"}
    ]
    code, _, answer = rows(ap, replaced(cluster(), stuck))
    assert code == 1
    assert "DisksNotLiveMigratable: not shared" in answer["obstacles"][0]["message"]


def test_a_guard_stands_in_every_way(ap):
    code, _, answer = rows(ap, replaced(cluster(), kubevirt(mediatedDevicesConfiguration={})))
    assert (code, answer["obstacles"][0]["reason"]) == (1, "KubeVirtUnsafe")


def stopped():
    return without(without(cluster(), "Pod"), "VirtualMachineInstance")


def test_a_vm_that_does_not_run_is_asked_where_it_could_start(ap):
    free = apnode("lnx1", [adapter(5), adapter(6)])
    code, nodes, _ = rows(ap, replaced(stopped(), free))
    assert code == 0
    assert {name: n["answer"] for name, n in nodes.items()} == dict.fromkeys(
        ("lnx1", "lnx2", "lnx3"), "can start here"
    )


def test_a_second_vm_of_one_matrix(ap):
    done = ap([*cluster(), vm("second", "payments")], "check", "vm/second", "-n", "bank")
    assert done.exit_code == 1
    assert "MatrixInUse" in done.stdout
    assert "VM bank/ledger has it" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["vm/nosuch"], 1, "there is no VM bank/nosuch"),
        (["pod/ledger"], 2, "is not a VM"),
        (["vm/"], 2, "is not an object"),
        (["vm/ledger", "--node", "nosuch"], 1, "there is no node nosuch"),
    ],
)
def test_what_there_is_not(ap, words, code, text):
    done = ap(cluster(), "check", *words, "-n", "bank")
    assert done.exit_code == code
    assert text in done.stderr


def test_a_vm_without_a_matrix(ap):
    plain = vm("ledger", "payments")
    plain["spec"]["template"]["metadata"] = {}
    documents = without(without(replaced(cluster(), plain), "VirtualMachineInstance"), "Pod")
    assert "asks for no matrix" in ap(documents, "check", "vm/ledger", "-n", "bank").stderr


def test_a_matrix_that_is_refused(ap):
    greedy = matrix("greedy", [5], [4], uuid="", created="2026-11-21T12:01:00Z")
    done = ap([*cluster(), greedy, vm("g", "greedy")], "check", "vm/g", "-n", "bank", columns=300)
    assert done.exit_code == 1
    assert "Overlap: greedy" in done.stdout


def test_the_namespace_may_be_named_before_the_command(ap):
    assert ap(cluster(), "-n", "bank", "check", "vm/ledger", "-o", "name").stdout == "node/lnx2\n"
    assert ap(cluster(), "check", "vm/ledger").exit_code == 1
