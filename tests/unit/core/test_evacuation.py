"""Moving a VM off a drained node, step by step, each from what is there now."""

import dataclasses

import pytest

from vfio_ap.fleet.evacuation import Traffic, VmView, plan_evacuation, stale_strategy
from vfio_ap.fleet.gate import Situation
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.scheduling import Constraints, Taint
from vfio_ap.fleet.verdict import GuestFacts

from .test_gate import PAY, POD, node, ready

VM = VmView("bank", "ledger", "vmi1", "pay", "n1", evacuating=True, migratable=True)
SOURCE = dataclasses.replace(POD, gated=False, node="n1")
NONE = Traffic()
DRAINED = ready("n1", taints=(Taint("node.kubernetes.io/unschedulable", "NoSchedule"),))


def plan(*nodes, vm=VM, source=SOURCE, traffic=NONE, only="", **more):
    situation = Situation(PAY, None, {n.name: n for n in nodes}, **more)
    return plan_evacuation(situation, vm, source, traffic, only)


def test_first_a_target_is_prepared_and_only_then_asked_for():
    first = plan(DRAINED, node("n2"), node("n3"))
    assert (first.prepare, first.start) == ({"n2"}, "")
    assert first.wait.reason == "Preparing"
    again = plan(DRAINED, ready("n2"), node("n3"))
    assert (again.prepare, again.start, again.wait) == ({"n2"}, "n2", None)


def test_a_prepared_node_is_chosen_again_whatever_its_name():
    assert plan(DRAINED, node("n2"), ready("n3")).start == "n3"


def test_a_drained_target_is_no_target():
    found = plan(DRAINED, ready("n2", taints=DRAINED.taints))
    assert found.start == ""
    assert found.wait.reason == "NoTarget"
    assert "n2: the node has the taint" in found.wait.message
    assert found.prepare == frozenset()


def test_a_vm_that_kubevirt_would_not_migrate_says_why():
    stuck = dataclasses.replace(VM, migratable=False, obstacle="InterfaceNotLiveMigratable: masquerade")
    found = plan(DRAINED, ready("n2"), vm=stuck)
    assert found.wait.reason == "NotMigratable"
    assert "masquerade" in found.wait.message


@pytest.mark.parametrize(("target", "start"), [(True, "n2"), (False, "")])
def test_the_pin_of_an_earlier_move_does_not_count_but_the_users_own_does(target, start):
    pinned = dataclasses.replace(
        SOURCE, migration="m0" if target else "", constraints=Constraints({"kubernetes.io/hostname": "n1"})
    )
    assert plan(DRAINED, ready("n2"), source=pinned).start == start


def test_a_named_node_is_the_only_target():
    assert plan(DRAINED, ready("n2"), ready("n3"), only="n3").start == "n3"
    nowhere = plan(DRAINED, ready("n2"), only="n9")
    assert (nowhere.wait.reason, nowhere.wait.subject) == ("NoTarget", "n9")


def test_a_budget_that_is_used_up_makes_it_wait_and_a_free_target_is_taken():
    busy = Traffic.of([("n5", "n2"), ("n6", "n2")])
    assert plan(DRAINED, ready("n2"), ready("n3"), traffic=busy).start == "n3"
    found = plan(DRAINED, ready("n2"), traffic=busy)
    assert (found.start, found.wait.reason) == ("", "Budget")
    assert "2 of 2 moves to node n2" in found.wait.message
    leaving = Traffic.of([("n1", "n4"), ("n1", "n5")])
    assert "away from node n1" in plan(DRAINED, ready("n2"), traffic=leaving).wait.message


def test_a_target_that_does_not_get_ready_in_time_gives_way_to_the_next():
    first = plan(DRAINED, node("n2"), node("n3"))
    assert first.timed == {("p1", "n2")}
    assert first.patience == 180
    late = plan(DRAINED, node("n2"), node("n3"), waited={("p1", "n2"): 180.0})
    assert late.prepare == {"n3"}
    assert late.timed == {("p1", "n2"), ("p1", "n3")}


OWNED = dataclasses.replace(VM, owner=("ledger", "vm1"))
RESTART = PolicyView(modes=("Live", "Restart"))


def test_the_answers_say_in_which_mode_a_vm_could_go():
    found = plan(DRAINED, ready("n2"))
    (answer,) = [a for a in found.answers if a.node == "n2"]
    assert (found.start, found.mode, answer.mode, answer.refusal) == ("n2", "Live", "Live", None)
    assert any("key" in warning for warning in answer.warnings), "nothing is known of the keys here"
    none = plan(DRAINED, ready("n2"), policy=PolicyView(modes=("Reattach",)))
    (answer,) = [a for a in none.answers if a.node == "n2"]
    assert (none.start, answer.mode, answer.refusal.reason) == ("", "", "ModeNotAllowed")


def test_where_no_kernel_migrates_a_vm_is_restarted_if_the_policy_allows_it_and_it_starts_again():
    old = ready("n2", live="no")
    found = plan(DRAINED, old, vm=OWNED, policy=RESTART)
    assert (found.start, found.mode, found.prepare) == ("n2", "Restart", {"n2"})
    assert plan(DRAINED, node("n2", live="no"), vm=OWNED, policy=RESTART).prepare == {"n2"}, "made before it stops"
    assert plan(DRAINED, old, vm=OWNED).wait.reason == "NoTarget"
    assert plan(DRAINED, old, policy=RESTART).wait.reason == "NoTarget", "nobody would start it again"


def test_the_mode_that_the_policy_names_first_comes_first():
    nodes = [ready("n2", live="no"), ready("n3")]
    assert plan(DRAINED, *nodes, vm=OWNED, policy=RESTART).start == "n3"
    second = plan(DRAINED, *nodes, vm=OWNED, policy=PolicyView(modes=("Restart", "Live")))
    assert (second.start, second.mode) == ("n2", "Restart")


def test_what_kubevirt_cannot_migrate_it_can_restart():
    stuck = dataclasses.replace(OWNED, migratable=False, obstacle="DisksNotLiveMigratable")
    assert plan(DRAINED, ready("n2"), vm=stuck, policy=RESTART).mode == "Restart"
    assert plan(DRAINED, ready("n2"), vm=stuck).wait.reason == "NotMigratable"


def test_a_guest_under_secure_execution_never_moves_live():
    sealed = dataclasses.replace(VM, guest=GuestFacts(secure_execution=True))
    assert "Secure Execution" in plan(DRAINED, ready("n2"), vm=sealed).wait.message


@pytest.mark.parametrize(
    ("external", "evacuation", "words"),
    [
        (True, "Operator", ""),
        (False, "KubeVirt", ""),
        (True, "KubeVirt", "the operator evacuates it as when it started; KubeVirt, as policy p says"),
        (False, "Operator", "KubeVirt evacuates it as when it started; the operator, as policy p says"),
    ],
)
def test_a_vm_that_was_started_under_another_policy_keeps_its_strategy_and_it_is_said(external, evacuation, words):
    vm = dataclasses.replace(VM, external=external)
    assert stale_strategy(vm, PolicyView("p", evacuation=evacuation)).startswith(words)
    assert stale_strategy(vm, PolicyView(evacuation=evacuation)) == ""
