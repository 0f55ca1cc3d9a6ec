"""kubectl ap matrix."""

import json

from .world import OTHER, apnode, cluster, device, kubevirt, matrix, pod, replaced


def test_all_matrices_with_their_reasons(ap):
    greedy = matrix("greedy", [5, 6], [4], uuid="", created="2026-11-21T12:01:00Z")
    text = ap([*cluster(), greedy], "matrix").stdout
    assert "bank/ledger  Ready" in text
    assert "Refused (Overlap)" in text
    assert "queue 05.0004" in text


def test_at_80_columns_no_word_is_lost(ap):
    greedy = matrix("greedy", [5, 6], [4], uuid="", created="2026-11-21T12:01:00Z")
    wide, narrow = (ap([*cluster(), greedy], "matrix", columns=c).stdout.split() for c in (400, 80))
    assert sorted(set(wide) - {"MESSAGE"}) == sorted(set(narrow) - {"MESSAGE"})


def test_one_matrix_node_by_node(ap):
    done = ap(cluster(), "matrix", "payments")
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["lnx1", "Ready", "-", "yes"] in rows
    assert ["lnx2", "Available", "-", "-"] in rows
    assert ["bank/ledger", "bank/virt-launcher-ledger-abcde", "lnx1", "Placed"] in rows
    assert "05.0004" in done.stdout


def test_a_second_vm_waits_and_is_told_for_whom(ap):
    done = ap([*cluster(), pod("second", "payments", gated=True)], "matrix", "payments", columns=300)
    assert "VM bank/ledger has it, and one VM has a matrix at a time" in done.stdout


def test_a_refused_matrix_is_a_no(ap):
    greedy = matrix("greedy", [5], [4], uuid="", created="2026-11-21T12:01:00Z")
    done = ap([*cluster(), greedy], "matrix", "greedy")
    assert done.exit_code == 1
    assert "overlaps APMatrix payments" in done.stdout


def test_a_device_that_failed_makes_the_matrix_fail_there(ap):
    broken = device("vault", OTHER, "6", "5", state="Failed", reason="QueueTaken", message="is in mdev x")
    documents = replaced(cluster(), apnode("lnx2", mdevs=[broken]))
    done = ap(
        [*documents, matrix("vault", [6], [5], OTHER, placement="Everywhere")], "matrix", "vault", columns=200
    )
    assert done.exit_code == 1
    assert "Failed" in done.stdout
    assert "is in mdev x" in done.stdout


def test_under_a_guard_nothing_is_available(ap):
    unsafe = kubevirt(mediatedDevicesConfiguration={})
    done = ap(replaced(cluster(), unsafe), "matrix", "payments", "-o", "json")
    states = {n["node"]: (n["state"], n["reason"]) for n in json.loads(done.stdout)["nodes"]}
    assert states["lnx1"][0] == "Ready"
    assert states["lnx2"] == ("Pending", "KubeVirtUnsafe")


def test_no_matrix_of_the_name(ap):
    done = ap(cluster(), "matrix", "nosuch")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "there is no APMatrix nosuch" in done.stderr
