"""What a change touches, and what it leaves alone."""

import random

import pytest

from vfio_ap.fleet.conflicts import refusal_of
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.index import Index
from vfio_ap_operator.reconcile import Reconciler

VERSION = iter(range(1, 10**9))


def node(name, row="a"):
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"row": row}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {}},
    }


def apnode(name, mdevs=(), **status):
    status = {"kernel": {"maxAdapter": 255, "maxDomain": 255}, "usageDomains": "0-255"} | status
    status["mdevs"] = [{"uuid": uuid, "state": "Ready", "adapters": "5", "domains": "4"} for uuid in mdevs]
    return {"metadata": {"name": name, "uid": f"ap-{name}", "generation": 1}, "spec": {}, "status": status}


def matrix(name, adapters, domains=(4,), created="2026-01-01", uuid=None, **spec):
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": str(next(VERSION)),
            "creationTimestamp": created,
        },
        "spec": {
            "adapters": list(adapters),
            "domains": list(domains),
            "allowedNamespaces": ["bank"],
            "placement": "Everywhere",
            **spec,
        },
        "status": {"uuid": uuid or f"uuid-{name}"},
    }


@pytest.fixture
def fleet():
    found = Fleet()
    for name, row in (("n1", "a"), ("n2", "b")):
        found.observe_node(node(name, row))
        found.observe_apnode(apnode(name))
        found.hear(name, True)
    for name, adapter in (("m5", 5), ("m6", 6), ("m7", 7)):
        found.observe_matrix(matrix(name, [adapter]))
    settle(found)
    return found


def settle(fleet):
    fleet.dirty_matrices, fleet.dirty_nodes, fleet.dirty_namespaces = set(), set(), set()


def test_an_edit_touches_rivals_selected_nodes_and_namespaces(fleet):
    fleet.observe_matrix(matrix("m5", [6], nodeSelector={"row": "b"}))
    assert fleet.dirty_matrices == {"m5", "m6"}
    assert fleet.dirty_nodes == {"n1", "n2"}
    assert fleet.dirty_namespaces == {"bank"}


def test_a_matrix_on_demand_touches_no_node(fleet):
    fleet.observe_matrix(matrix("new", [9], placement="OnDemand"))
    assert fleet.dirty_nodes == set()


def test_a_device_that_changed_touches_its_matrix_alone(fleet):
    fleet.observe_apnode(apnode("n1", ["uuid-m5"]))
    assert fleet.dirty_matrices == {"m5"}
    assert [view.name for view in fleet.holders(fleet.matrices["m5"].view)] == ["n1"]


def test_a_heartbeat_that_changes_nothing_touches_nothing(fleet):
    fleet.observe_node(node("n1", "a"))
    fleet.hear("n1", True)
    assert not fleet.dirty_nodes
    assert not fleet.dirty_matrices


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.observe_node(node("n1", "c")),
        lambda f: f.hear("n1", False),
        lambda f: f.forget_apnode("n1"),
        lambda f: f.observe_apnode(apnode("n1", usageDomains="0-3")),
    ],
)
def test_what_a_node_can_do_touches_every_matrix(fleet, change):
    change(fleet)
    assert fleet.dirty_matrices == {"m5", "m6", "m7"}


def test_an_older_state_than_the_known_one_is_ignored(fleet):
    old = matrix("m5", [5])
    fleet.observe_matrix(matrix("m5", [8]))
    fleet.observe_matrix(old)
    assert list(fleet.matrices["m5"].view.matrix.adapters) == [8]


def test_a_namespace_admits_what_stands_and_is_not_leaving(fleet):
    leaving = matrix("m6", [6])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-02"
    fleet.observe_matrix(leaving)
    fleet.observe_matrix(matrix("late", [5], created="2026-02-01"))
    Reconciler(fleet, None, None)._judge()
    assert fleet.admitted("bank") == {"m5": "uuid-m5", "m7": "uuid-m7"}
    assert fleet.admitted("other") == {}


def test_a_matrix_admits_nobody_before_it_has_its_uuid(fleet):
    document = matrix("m5", [5])
    document["status"] = {}
    fleet.observe_matrix(document)
    assert "m5" not in fleet.admitted("bank")
    settle(fleet)
    fleet.observe_matrix(matrix("m5", [5]))
    assert fleet.dirty_namespaces == {"bank"}
    assert fleet.admitted("bank")["m5"] == "uuid-m5"


def test_a_label_that_says_another_uuid_is_seen(fleet):
    labelled = {"metadata": {"name": "bank", "labels": {"use.ap.s390x.io/m5": "uuid-m5", "team": "blue"}}}
    fleet.observe_namespace(labelled)
    settle(fleet)
    fleet.observe_namespace(labelled)
    assert not fleet.dirty_namespaces
    labelled["metadata"]["labels"]["use.ap.s390x.io/m5"] = "allowed"
    fleet.observe_namespace(labelled)
    assert fleet.dirty_namespaces == {"bank"}
    assert fleet.namespaces["bank"] == {"m5": "allowed"}


def test_nodes_that_are_alike_are_judged_once(fleet):
    (group,) = fleet.groups(fleet.matrices["m5"].view)
    assert group.names == ("n1", "n2")
    fleet.hear("n2", False)
    assert len(fleet.groups(fleet.matrices["m5"].view)) == 2


def test_nodes_with_other_ids_are_judged_apart(fleet):
    variant = {"machines": ["IBM-2"], "adapters": [9], "domains": [4]}
    fleet.observe_matrix(matrix("m5", [5], variants=[variant]))
    settle(fleet)
    assert len(fleet.groups(fleet.matrices["m5"].view)) == 1
    fleet.observe_apnode(apnode("n2", machine={"id": "IBM-2"}))
    assert "m5" in fleet.dirty_matrices
    first, second = fleet.groups(fleet.matrices["m5"].view)
    assert (first.names, second.names) == (("n1",), ("n2",))
    fleet.observe_matrix(matrix("new", [9]))
    assert {view.name for view in fleet.rivals(fleet.matrices["new"].view)} >= {"m5"}


def launcher(matrix, *, node="", migration=""):
    labels = {"ap.s390x.io/matrix": matrix, "kubevirt.io/created-by": f"vmi-{matrix}"}
    labels |= {"kubevirt.io/migrationJobUID": migration} if migration else {}
    return {
        "metadata": {
            "name": f"l-{matrix}",
            "namespace": "bank",
            "uid": f"pod-{matrix}{migration}",
            "labels": labels,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running" if node else "Pending"},
    }


def test_what_a_verdict_looks_at_concerns_those_who_move(fleet):
    """A key that is read anew is no business of five thousand VMs that stay where they are."""
    fleet.work.observe_pod(launcher("m5", node="n1"))
    fleet.work.observe_pod(launcher("m6"))
    fleet.work.observe_pod(launcher("m7", node="n1", migration="mig"))
    settle(fleet)
    card = {"id": 5, "type": "CEX8C", "functions": "0x93800000", "host": "4"}
    fleet.observe_apnode(apnode("n1", adapters=[card]))
    settle(fleet)
    keyed = card | {"keys": [{"domains": "4", "set": "k1"}]}
    sets = [{"name": "k1", "patterns": {"AES CUR": "0x1"}}]
    fleet.observe_apnode(apnode("n1", adapters=[keyed], keySets=sets))
    assert fleet.dirty_matrices == {"m6", "m7"}


def test_judging_what_is_dirty_equals_judging_everything():
    """Random histories: the incremental verdicts are those of a fleet that saw only the last state."""
    dice = random.Random(7)
    for _ in range(40):
        fleet, last = Fleet(), {}
        judge = Reconciler(fleet, None, None)._judge
        for name, row in (("n1", "a"), ("n2", "b")):
            fleet.observe_node(node(name, row))
            fleet.observe_apnode(apnode(name))
        for _ in range(30):
            name = f"m{dice.randrange(8)}"
            if dice.random() < 0.2:
                fleet.forget_matrix(name)
                last.pop(name, None)
            else:
                spec = {"nodeSelector": {"row": dice.choice("ab")}} if dice.random() < 0.5 else {}
                adapters = dice.sample(range(4), dice.randint(1, 2))
                uuid = f"uuid-{dice.randrange(6)}" if dice.random() < 0.2 else None
                last[name] = matrix(name, adapters, created=f"2026-01-0{name[1]}", uuid=uuid, **spec)
                fleet.observe_matrix(last[name])
            judge()
            settle(fleet)
        fresh = Fleet()
        for name, row in (("n1", "a"), ("n2", "b")):
            fresh.observe_node(node(name, row))
            fresh.observe_apnode(apnode(name))
        for document in last.values():
            fresh.observe_matrix(document)
        Reconciler(fresh, None, None)._judge()
        assert fleet.refusals.keys() == fresh.refusals.keys()
        for name, record in fresh.matrices.items():
            stands = [r.view for n, r in fresh.matrices.items() if n not in fresh.refusals]
            assert (refusal_of(record.view, stands, fresh.views) is None) == (name not in fresh.refusals)


def test_an_index_forgets_keys_without_names():
    index = Index()
    index.put("a", {1, 2})
    index.put("b", {2})
    assert (index.find(1, 2), index.find(3)) == ({"a", "b"}, set())
    index.put("a", ())
    index.put("b", {3})
    assert dict(index.items()) == {3: {"b"}}
