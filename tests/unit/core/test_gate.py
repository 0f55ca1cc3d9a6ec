"""The placement gate: who may go, where, and what the others wait for."""

import dataclasses

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import candidates
from vfio_ap.fleet.gate import Cancel, GatePlan, Lift, Release, Situation, plan_gate
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.scheduling import Constraints, Taint
from vfio_ap.fleet.views import Card, Desired, HeldMdev, KeySet, KeyUse, MatrixView, NodeView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

CONFIG = Matrix(IdSet.of(5), IdSet.of(4))
PAY = MatrixView("pay", "u1", CONFIG, namespaces=frozenset({"bank"}))
EVERY = Matrix(IdSet.every(), IdSet.every())
POD = PodView("bank", "virt-launcher-a", "p1", "pay", "vmi1", vm="ledger", created="2026-01-01", gated=True)
TARGET = dataclasses.replace(
    POD, name="virt-launcher-b", uid="p2", created="2026-01-02", migration="m1", held=True
)
RUNNING = dataclasses.replace(POD, gated=False, node="n1")


def node(name, **more):
    base = NodeView(
        name,
        {"kubernetes.io/hostname": name},
        alive=True,
        max_adapter=255,
        max_domain=255,
        present=EVERY,
        cards={5: Card("CEX8C", 0x93800000)},
        live="v4",
    )
    return dataclasses.replace(base, **more)


def ready(name, **more):
    fields = {
        "desired": (Desired("u1", "pay", CONFIG, granted=True),),
        "mdevs": {"u1": HeldMdev("u1", CONFIG, "Ready", offered=True)},
        "current": True,
        "allocatable": frozenset({"pay"}),
    }
    return node(name, **fields | more)


def plan(*pods, nodes=(), refusal=None, matrix=PAY, **more):
    return plan_gate(Situation(matrix, refusal, {n.name: n for n in nodes}, **more), pods)


def frozen(name, **more):
    return ready(name, desired=(Desired("u1", "pay", CONFIG, granted=True, frozen=True),), **more)


def test_nothing_is_prepared_for_nobody():
    assert plan(nodes=[node("n1")]) == GatePlan()


def test_a_first_boot_waits_for_its_node_and_is_then_let_go_unpinned():
    waiting = plan(POD, nodes=[node("n1"), node("n2")])
    assert waiting.claim.nodes == {"n1"}
    assert waiting.waits[0].refusal.subject == "node n1"
    assert plan(POD, nodes=[ready("n1"), node("n2")]).actions == (Lift(POD),)


def test_not_allocatable_yet_is_not_ready():
    found = plan(POD, nodes=[ready("n1", allocatable=frozenset())])
    assert found.actions == ()
    assert found.waits[0].refusal.reason == "NotAllocatable"


def test_a_target_is_pinned_to_another_node_than_its_source():
    gated = dataclasses.replace(TARGET, held=True)
    found = plan(RUNNING, gated, nodes=[ready("n1"), ready("n2")])
    assert found.actions == (Lift(gated, "n2"),)
    assert found.claim.nodes == {"n1", "n2"}
    assert found.user == "bank/ledger"


def test_a_held_target_is_released_when_its_device_is_ready_there():
    arrived = dataclasses.replace(TARGET, gated=False, node="n2")
    thawed = plan(RUNNING, arrived, nodes=[ready("n1"), ready("n2")])
    assert thawed.actions == ()
    assert thawed.waits[0].refusal.reason == "Freezing"
    assert thawed.claim.frozen == {"n1", "n2"}
    half = plan(RUNNING, arrived, nodes=[frozen("n1"), frozen("n2", current=False)])
    assert half.actions == ()
    assert half.claim.frozen == {"n1", "n2"}, "or the two would freeze and thaw for ever"
    assert plan(RUNNING, arrived, nodes=[frozen("n1"), frozen("n2")]).actions == (Release(arrived),)
    blind = frozen("n1", unready=Refusal("SysfsTimeout", "n1", "apmask did not answer"))
    assert plan(RUNNING, arrived, nodes=[blind, frozen("n2")]).waits[0].refusal.reason == "Freezing"
    lost = plan(RUNNING, arrived, nodes=[ready("n1"), node("n2")])
    assert lost.actions == ()
    assert lost.waits[0].refusal.subject == "node n2"


def test_one_vm_has_a_matrix_at_a_time():
    other = dataclasses.replace(
        POD, name="virt-launcher-x", uid="p9", owner="vmi2", vm="other", created="2025-01-01"
    )
    found = plan(RUNNING, other, nodes=[ready("n1"), ready("n2")])
    assert found.actions == ()
    assert found.waits[0].pod is other
    assert found.waits[0].refusal.reason == "MatrixInUse"
    assert "bank/ledger" in found.waits[0].refusal.message


def test_the_older_of_two_that_both_wait_comes_first():
    other = dataclasses.replace(POD, name="younger", uid="p9", owner="vmi2", created="2026-03-01")
    found = plan(other, POD, nodes=[ready("n1")])
    assert found.actions == (Lift(POD),)
    assert [wait.pod for wait in found.waits] == [other]


def test_a_pod_without_room_gets_one_more_node_and_keeps_the_first():
    let_go = dataclasses.replace(POD, gated=False)
    assert plan(let_go, nodes=[ready("n1"), node("n2")]).claim.nodes == {"n1"}
    stuck = dataclasses.replace(let_go, unschedulable=True)
    first = plan(stuck, nodes=[ready("n1"), node("n2"), node("n3")])
    assert (first.claim.nodes, first.patience) == ({"n1"}, 15), "the scheduler may only be late"
    late = {("p1", "after 1"): 15.0}
    second = plan(stuck, nodes=[ready("n1"), node("n2"), node("n3")], waited=late)
    assert second.claim.nodes == {"n1", "n2"}
    assert plan(stuck, nodes=[ready("n1"), ready("n2"), node("n3")], waited=late).claim.nodes == {"n1", "n2"}
    later = {("p1", "after 2"): 15.0}
    assert plan(stuck, nodes=[ready("n1"), ready("n2"), node("n3")], waited=later).claim.nodes == {
        "n1",
        "n2",
        "n3",
    }


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"alive": False}, "does not answer"),
        ({"unready": Refusal("SysfsTimeout", "n1", "/sys/bus/ap/apmask: did not answer")}, "apmask"),
        ({"max_adapter": 4}, "above the node's maximum 4"),
        ({"present": Matrix(IdSet.of(6), IdSet.every())}, "no adapters 5"),
        ({"taints": (Taint("node.kubernetes.io/unschedulable", "NoSchedule"),)}, "taint"),
        ({"mdevs": {"u1": HeldMdev("u1", CONFIG, "Failed", message="kernel says EBUSY")}}, "EBUSY"),
        ({"mdevs": {"u1": HeldMdev("u1", CONFIG, "Ready", in_use=True)}}, "a guest there uses"),
    ],
)
def test_a_node_that_cannot_take_it_is_named_with_its_reason(change, word):
    (wait,) = plan(POD, nodes=[node("n1", **change)]).waits
    assert wait.refusal.reason == "NoNode"
    assert "n1: " in wait.refusal.message
    assert word in wait.refusal.message


def test_a_node_with_more_of_the_queues_comes_first_and_one_with_some_is_better_than_none():
    wide = dataclasses.replace(PAY, matrix=Matrix(IdSet.of(5, 6, 7), IdSet.of(4)))
    some, most = Matrix(IdSet.of(5), IdSet.every()), Matrix(IdSet.of(5, 6), IdSet.every())
    nodes = [node("n1", present=some), node("n2", present=most), node("n3")]
    for best in ("n3", "n2", "n1"):
        assert plan(POD, nodes=nodes, matrix=wide).claim.nodes == {best}
        nodes.pop()
    overridden = node("n1", present=some, in_advance=False)
    assert "no adapters 6-7" in plan(POD, nodes=[overridden], matrix=wide).waits[0].refusal.message


def test_of_the_node_that_a_vm_runs_on_only_that_is_said():
    used = ready("n1", mdevs={"u1": HeldMdev("u1", CONFIG, "Ready", in_use=True)})
    (answer,) = candidates(PAY, TARGET, {"n1"}, {"n1": used}, PolicyView())
    assert answer.refusal.reason == "RunsThere"


def with_keys(name, pattern, **more):
    uses = (KeyUse(IdSet.every(), KeySet((("AES CUR", pattern),))),)
    return node(name, keys={5: uses} if pattern else {}, **more)


def test_a_vm_starts_where_the_expected_master_keys_are():
    strict, keyed = PolicyView(master_keys="Require"), dataclasses.replace(PAY, expected={"AES CUR": "0xaa"})
    wrong, unknown, right = with_keys("n1", "0xbb"), with_keys("n2", ""), with_keys("n3", "0xaa")
    for policy in (PolicyView(), strict):
        assert plan(POD, nodes=[wrong, unknown, right], matrix=keyed, policy=policy).claim.nodes == {"n3"}
    (refused,) = plan(POD, nodes=[wrong], matrix=keyed, policy=strict).waits
    assert "0xaa expected, 0xbb on n1" in refused.refusal.message
    assert "are not known" in plan(POD, nodes=[unknown], matrix=keyed, policy=strict).waits[0].refusal.message
    assert plan(POD, nodes=[wrong], matrix=keyed).claim.nodes == {"n1"}, "a warning is none"
    ignored = plan(POD, nodes=[wrong, right], matrix=keyed, policy=PolicyView(master_keys="Ignore"))
    assert ignored.claim.nodes == {"n1"}


def test_a_vm_that_is_restarted_elsewhere_starts_there_or_waits():
    nodes = [ready("n1"), ready("n2")]
    assert plan(POD, nodes=nodes, bound="n2").actions == (Lift(POD, "n2"),)
    waiting = plan(POD, nodes=[ready("n1"), node("n2", alive=False)], bound="n2")
    assert (waiting.actions, waiting.waits[0].refusal.reason) == ((), "NoNode")
    assert plan(POD, nodes=nodes).actions == (Lift(POD),)


def test_the_pin_of_a_restart_is_no_constraint_of_the_next_move():
    here = Constraints({"kubernetes.io/hostname": "n1", "zone": "e"})
    pinned = dataclasses.replace(RUNNING, constraints=here, pinned=True)
    assert pinned.next_target().constraints.selector == {"zone": "e"}
    assert dataclasses.replace(pinned, pinned=False).next_target().constraints.selector == here.selector


def test_the_pods_own_constraints_count():
    picky = dataclasses.replace(POD, constraints=Constraints({"kubernetes.io/hostname": "n2"}))
    assert plan(picky, nodes=[node("n1"), node("n2")]).claim.nodes == {"n2"}


def test_a_refused_matrix_is_prepared_nowhere_and_its_pod_hears_why():
    refusal = Refusal("Overlap", "pay", "overlaps APMatrix x")
    found = plan(POD, nodes=[node("n1")], refusal=refusal)
    assert found.claim.nodes == frozenset()
    assert found.waits[0].refusal is refusal


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"live": "no"}, "LIVE is no"),
        ({"cards": {5: Card("CEX8P", 0x87800000)}}, "mode: CCA on n1, EP11 on n2"),
        ({"cards": {}}, "not known"),
    ],
)
def test_a_target_that_could_not_end_well_is_not_let_go(change, word):
    found = plan(RUNNING, TARGET, nodes=[ready("n1"), ready("n2", **change)])
    assert found.actions == ()
    assert word in found.waits[0].refusal.message


def test_a_first_boot_needs_no_kernel_that_migrates():
    assert plan(POD, nodes=[ready("n1", live="no")]).actions == (Lift(POD),)


def test_a_target_whose_kernel_shows_it_only_on_a_device_is_prepared_and_asked_again():
    waiting = plan(RUNNING, TARGET, nodes=[ready("n1"), node("n2", live="unknown")])
    assert waiting.claim.nodes == {"n1", "n2"}
    assert waiting.actions == ()
    assert plan(RUNNING, TARGET, nodes=[ready("n1"), ready("n2", live="unknown")]).actions == ()


def test_the_first_kernels_must_be_told_that_the_device_may_move():
    arrived = dataclasses.replace(TARGET, gated=False, node="n2")
    before = plan(RUNNING, arrived, nodes=[frozen("n1", live="v1"), frozen("n2", live="v1")])
    assert before.claim.migratable == {"n1", "n2"}


def test_both_sides_stay_frozen_until_the_move_is_seen_to_its_end():
    moved = dataclasses.replace(TARGET, gated=False, held=False, node="n2")
    assert plan(RUNNING, moved, nodes=[frozen("n1"), frozen("n2")]).claim.frozen == {"n1", "n2"}
    assert plan(moved, nodes=[frozen("n2")], moving=True).claim.frozen == {"n2"}
    assert plan(moved, nodes=[frozen("n2")]).claim.frozen == frozenset()


def test_a_target_that_waits_for_too_long_is_cancelled_with_what_it_waited_for():
    first = plan(RUNNING, TARGET, nodes=[ready("n1"), node("n2", live="no")])
    assert ("p2", "") in first.timed
    assert first.patience == 300
    late = plan(RUNNING, TARGET, nodes=[ready("n1"), node("n2", live="no")], waited={("p2", ""): 300.0})
    (cancel,) = late.actions
    assert isinstance(cancel, Cancel)
    assert cancel.refusal.reason == "WaitedTooLong"
    assert "LIVE is no" in cancel.refusal.message


def test_a_node_that_does_not_get_ready_in_time_gives_way_and_comes_again_when_no_other_is_left():
    nodes = [node("n1"), node("n2")]
    late = plan(POD, nodes=nodes, waited={("p1", "n1"): 180.0})
    assert late.claim.nodes == {"n2"}
    both = plan(POD, nodes=nodes, waited={("p1", "n1"): 180.0, ("p1", "n2"): 180.0})
    assert both.claim.nodes == {"n1"}
    assert both.waits[0].overdue


def test_a_namespace_that_may_no_longer_use_it_keeps_it_for_the_vm_that_has_it_only():
    closed = dataclasses.replace(PAY, namespaces=frozenset())
    assert plan(POD, nodes=[ready("n1")], matrix=closed).waits[0].refusal.reason == "NamespaceNotAllowed"
    gated = dataclasses.replace(TARGET)
    found = plan(RUNNING, gated, nodes=[ready("n1"), ready("n2")], matrix=closed)
    assert found.actions == (Lift(gated, "n2"),)
    assert found.namespace == "bank"


def test_a_matrix_on_its_way_out_moves_with_its_vm_and_is_given_to_no_other():
    leaving = dataclasses.replace(PAY, deleting=True)
    assert plan(POD, nodes=[ready("n1")], matrix=leaving).waits[0].refusal.reason == "Deleting"
    assert plan(RUNNING, TARGET, nodes=[ready("n1"), ready("n2")], matrix=leaving).actions == (Lift(TARGET, "n2"),)


def test_what_a_silent_node_has_is_not_given_away_and_the_way_out_is_said():
    other = dataclasses.replace(POD, name="x", uid="p9", owner="vmi2", vm="other", created="2027-01-01")
    (wait,) = plan(RUNNING, other, nodes=[ready("n1", alive=False), node("n2")]).waits
    assert wait.refusal.reason == "NodeSilent"
    assert "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in wait.refusal.remedy


def test_a_target_that_does_not_become_ready_is_cancelled_and_one_that_is_may_take_its_time():
    """The hold is lifted, and KubeVirt waits for the pod's sidecars without a limit."""
    let_go = dataclasses.replace(TARGET, gated=False, held=False, node="n2")
    sides = [frozen("n1"), frozen("n2")]
    waiting = plan(RUNNING, let_go, nodes=sides, waited={("p2", ""): 299.0})
    assert (waiting.actions, waiting.waits, waiting.patience) == ((), (), 1.0)
    (cancel,) = plan(RUNNING, let_go, nodes=sides, waited={("p2", ""): 300.0}).actions
    assert isinstance(cancel, Cancel)
    assert "its hook sidecar does not become ready" in str(cancel.refusal)
    moving = plan(RUNNING, dataclasses.replace(let_go, ready=True), nodes=sides, waited={("p2", ""): 9999.0})
    assert (moving.actions, moving.timed) == ((), frozenset())
