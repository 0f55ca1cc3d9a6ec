"""What each node shall hold, and how each matrix stands there and as a whole."""

import dataclasses

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.fleet.placement import Claim, Group, desired_mdevs, standing, standings
from vfio_ap.fleet.summary import summarise
from vfio_ap.fleet.views import Desired, HeldMdev, MatrixView, NodeView, Placement, Variant
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

CONFIG = Matrix(IdSet.of(5, 6), IdSet.of(4, 171))
WIDER = Matrix(IdSet.of(5, 6), IdSet.of(4, 171, 200))
EVERYWHERE = MatrixView("pay", "u1", CONFIG, placement=Placement.EVERYWHERE)
ON_DEMAND = dataclasses.replace(EVERYWHERE, placement=Placement.ON_DEMAND)
NODE = NodeView(
    "n1", {"zone": "e"}, alive=True, max_adapter=255, max_domain=255, present=Matrix(IdSet.every(), IdSet.every())
)
HELD = Desired("u1", "pay", CONFIG, granted=True)
READY = HeldMdev("u1", CONFIG, "Ready", offered=True)
REFUSAL = Refusal("Overlap", "pay", "overlaps APMatrix x")


def holding(mdev=READY, desired=(HELD,), **more):
    more = {"current": True, "allocatable": frozenset({"pay"})} | more
    return dataclasses.replace(NODE, desired=desired, mdevs={mdev.uuid: mdev}, **more)


def test_everywhere_is_on_every_node_it_selects_and_granted():
    elsewhere = dataclasses.replace(EVERYWHERE, selector={"zone": "w"})
    assert desired_mdevs(NODE, [EVERYWHERE], {}, {}) == (HELD,)
    assert desired_mdevs(NODE, [elsewhere], {}, {}) == ()


def test_on_demand_is_on_no_node_that_nobody_asked():
    assert desired_mdevs(NODE, [ON_DEMAND], {}, {}) == ()


def test_a_refused_edit_changes_nothing():
    edited = dataclasses.replace(EVERYWHERE, matrix=WIDER)
    assert desired_mdevs(holding(), [edited], {"pay": REFUSAL}, {}) == (HELD,)
    assert desired_mdevs(holding(), [edited], {}, {}) == (dataclasses.replace(HELD, configuration=WIDER),)


def test_an_edit_beyond_the_nodes_maximum_changes_nothing_there():
    small = dataclasses.replace(holding(), max_domain=171)
    edited = dataclasses.replace(EVERYWHERE, matrix=WIDER)
    assert desired_mdevs(small, [edited], {}, {}) == (HELD,)


def test_a_node_that_never_reported_is_asked_for_nothing():
    assert desired_mdevs(dataclasses.replace(NODE, max_adapter=None), [EVERYWHERE], {}, {}) == ()


@pytest.mark.parametrize(
    "change", [{"deleting": True}, {"selector": {"zone": "w"}}, {"placement": Placement.ON_DEMAND}]
)
def test_a_device_in_use_stays_and_is_offered_to_nobody_else(change):
    leaving = dataclasses.replace(EVERYWHERE, **change)
    used = dataclasses.replace(READY, in_use=True)
    assert desired_mdevs(holding(used), [leaving], {}, {}) == (dataclasses.replace(HELD, granted=False),)
    assert desired_mdevs(holding(), [leaving], {}, {}) == ()


@pytest.mark.parametrize(
    ("node", "state", "reason"),
    [
        (NODE, "Pending", "NotRequested"),
        (dataclasses.replace(NODE, desired=(HELD,)), "Pending", "Requested"),
        (holding(), "Ready", ""),
        (holding(current=False), "Pending", "Applying"),
        (holding(allocatable=frozenset()), "Pending", "NotAllocatable"),
        (holding(dataclasses.replace(READY, configuration=WIDER)), "Pending", "Applying"),
        (holding(dataclasses.replace(READY, state="Failed", reason="KernelBusy")), "Failed", "KernelBusy"),
        (holding(desired=()), "Pending", "Leaving"),
        (holding(dataclasses.replace(READY, state="Foreign"), desired=()), "Pending", "NotRequested"),
        (holding(alive=False), "Pending", "NodeSilent"),
        (holding(unready=Refusal("SysfsTimeout", "n1", "did not answer")), "Pending", "NodeNotReady"),
        (dataclasses.replace(NODE, max_adapter=None), "Pending", "NotReported"),
        (dataclasses.replace(NODE, max_adapter=5), "Refused", "IdAboveMaximum"),
    ],
)
def test_only_what_was_read_back_and_is_allocatable_is_ready(node, state, reason):
    found = standing(node, EVERYWHERE, None)
    assert found is not None
    assert (found.state, found.reason) == (state, reason)


def test_on_demand_is_available_where_the_queues_are():
    lacking = dataclasses.replace(NODE, present=Matrix(IdSet.of(7), IdSet.every()))
    here, there = standing(NODE, ON_DEMAND, None), standing(lacking, ON_DEMAND, None)
    assert here is not None
    assert there is not None
    assert (here.state, there.state, there.reason) == ("Available", "Pending", "QueueAbsent")
    assert "no adapters 5-6" in there.message


@pytest.mark.parametrize("present", [Matrix(IdSet.of(5), IdSet.every()), Matrix(IdSet.every(), IdSet.of(4))])
def test_ids_may_be_held_before_the_machine_gives_them_and_that_is_said(present):
    early = dataclasses.replace(NODE, present=present)
    found = standing(early, ON_DEMAND, None)
    assert (found.state, found.reason) == ("Available", "OverProvisioned")
    assert early.missing_text(CONFIG) in found.message
    there = standing(holding(present=present), EVERYWHERE, None)
    assert (there.state, there.reason) == ("Ready", "OverProvisioned")
    overridden = dataclasses.replace(early, in_advance=False)
    assert standing(overridden, ON_DEMAND, None).reason == "QueueAbsent"


def test_a_node_without_business_is_not_listed():
    assert standing(NODE, dataclasses.replace(EVERYWHERE, selector={"zone": "w"}), None) is None


def summary(matrix, *nodes, refusal=None):
    return summarise(matrix, refusal, [s for n in nodes if (s := standing(n, matrix, refusal))])


def test_everywhere_is_ready_when_every_node_is():
    second = dataclasses.replace(holding(), name="n2")
    both, half = summary(EVERYWHERE, holding(), second), summary(EVERYWHERE, holding(), NODE)
    assert (both.state, both.good, both.chosen, both.conditions[1].status) == ("Ready", 2, 2, True)
    assert (half.state, half.good, half.chosen) == ("Pending (NotRequested)", 1, 2)


def test_on_demand_is_ready_when_one_node_can_have_it():
    small = dataclasses.replace(NODE, name="n2", max_adapter=5)
    found = summary(ON_DEMAND, NODE, small)
    assert (found.state, found.conditions[1].status) == ("Degraded (IdAboveMaximum)", True)


def test_words_for_refused_nowhere_and_deleting_in_use():
    assert summary(EVERYWHERE, NODE, refusal=REFUSAL).state == "Refused (Overlap)"
    assert summary(EVERYWHERE).state == "Pending (NoNodes)"
    leaving = dataclasses.replace(EVERYWHERE, deleting=True)
    used = summary(leaving, holding(dataclasses.replace(READY, in_use=True)))
    assert (used.state, used.used_by, used.conditions[1].reason) == ("Deleting (InUse)", "n1", "DeletingInUse")


GUARD = Refusal("KubeVirtUnsafe", "KubeVirt", "virt-handler would delete the devices", "patch it")


def test_under_a_guard_nothing_is_made_or_changed_and_nothing_goes():
    edited = dataclasses.replace(EVERYWHERE, matrix=WIDER)
    assert desired_mdevs(NODE, [EVERYWHERE], {}, {}, GUARD) == ()
    assert desired_mdevs(holding(), [edited], {}, {}, GUARD) == (HELD,)
    assert desired_mdevs(NODE, [ON_DEMAND], {}, {"pay": Claim(frozenset({"n1"}))}, GUARD) == ()


def test_under_a_guard_no_node_is_available_and_the_reason_has_the_remedy():
    found, available = standings(ON_DEMAND, None, [], [Group(NODE, ("n1", "n2"))], GUARD)
    assert available == 0
    assert [item.node for item in found] == ["n1", "n2"]
    assert "patch it" in found[0].message
    assert summarise(ON_DEMAND, None, found, available).state == "Pending (KubeVirtUnsafe)"
    own = standings(ON_DEMAND, REFUSAL, [], [Group(NODE, ("n1",))], GUARD)[0]
    assert own[0].reason == "Overlap"


def test_nodes_that_are_alike_are_counted_without_being_listed():
    found, available = standings(ON_DEMAND, None, [holding()], [Group(NODE, ("n2", "n3"))])
    assert ([item.node for item in found], available) == (["n1"], 2)


def test_what_a_move_has_frozen_stays_as_it_is_whatever_becomes_of_the_matrix():
    claim = {"pay": Claim(frozenset({"n1"}), frozenset({"n1"}))}
    edited = dataclasses.replace(ON_DEMAND, matrix=WIDER)
    frozen = dataclasses.replace(HELD, frozen=True)
    for matrix, refusals in ((edited, {}), (edited, {"pay": REFUSAL}), (ON_DEMAND, {})):
        assert desired_mdevs(holding(), [matrix], refusals, claim) == (frozen,)
    assert desired_mdevs(holding(desired=(frozen,)), [edited], {}, {"pay": Claim(frozenset({"n1"}))}) == (
        dataclasses.replace(HELD, configuration=WIDER),
    )
    assert standing(holding(desired=(frozen,)), edited, None).reason == "EditWaits"


def test_an_edit_that_is_not_asked_of_the_agent_yet_is_not_ready():
    edited = dataclasses.replace(ON_DEMAND, matrix=WIDER)
    assert standing(holding(), edited, None).state == "Pending"


def test_a_matrix_on_its_way_out_is_made_where_its_vm_must_go():
    leaving = dataclasses.replace(ON_DEMAND, deleting=True)
    assert desired_mdevs(NODE, [leaving], {}, {"pay": Claim(frozenset({"n1"}))}) == (HELD,)


def test_a_node_gets_the_ids_of_the_first_variant_that_is_for_it():
    variants = (
        Variant(Matrix(IdSet.of(9), IdSet.of(4)), machines=frozenset({"IBM-1"})),
        Variant(WIDER, selector={"zone": "e"}),
    )
    varied = dataclasses.replace(EVERYWHERE, variants=variants)
    first = dataclasses.replace(NODE, machine="IBM-1")
    assert [item.configuration for item in desired_mdevs(first, [varied], {}, {})] == [variants[0].matrix]
    assert [item.configuration for item in desired_mdevs(NODE, [varied], {}, {})] == [WIDER]
    other = dataclasses.replace(NODE, labels={})
    assert [item.configuration for item in desired_mdevs(other, [varied], {}, {})] == [CONFIG]
    small = dataclasses.replace(first, max_adapter=8)
    refused = standing(small, varied, None)
    assert refused is not None
    assert (refused.state, refused.reason) == ("Refused", "IdAboveMaximum")
    lacking = dataclasses.replace(first, present=Matrix(IdSet.of(10), IdSet.every()))
    assert (
        standing(lacking, dataclasses.replace(varied, placement=Placement.ON_DEMAND), None).reason == "QueueAbsent"
    )


def test_a_matrix_that_is_refused_for_anothers_uuid_has_nothing_of_its_device():
    theirs = holding(dataclasses.replace(READY, in_use=True))
    copy = dataclasses.replace(EVERYWHERE, name="copy")
    refused = Refusal("UuidInUse", "copy", "UUID u1 belongs to APMatrix pay")
    (found,), _ = standings(copy, refused, [theirs], [])
    assert (found.state, found.reason, found.in_use) == ("Refused", "UuidInUse", False)
    assert summarise(copy, refused, [found]).used_by == ""
    elsewhere = dataclasses.replace(copy, selector={"zone": "w"})
    assert standings(elsewhere, refused, [theirs], []) == ([], 0)
