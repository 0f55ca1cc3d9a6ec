"""A target's device is made with what the guest has: kernels compare that, or take it over."""

import dataclasses

import pytest

from vfio_ap.fleet.evacuation import Traffic, plan_evacuation
from vfio_ap.fleet.gate import Lift, Situation, plan_gate
from vfio_ap.fleet.placement import Claim, desired_mdevs, standing
from vfio_ap.fleet.shape import shape_for
from vfio_ap.fleet.views import Card, Desired, HeldMdev, MatrixView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

from .test_evacuation import VM
from .test_gate import POD, RUNNING, TARGET, node

WHOLE = Matrix(IdSet.of(5, 6), IdSet.of(4))
FEWER = Matrix(IdSet.of(5), IdSet.of(4))
CARDS = {5: Card("CEX8C", 0x93800000), 6: Card("CEX8C", 0x93800000)}
PAY = MatrixView("pay", "u1", WHOLE, namespaces=frozenset({"bank"}))


def holding(name, configuration, guest, live="v1", **more):
    mdev = HeldMdev("u1", configuration, "Ready", offered=True, in_use=name == "n1", guest=guest)
    return node(
        name,
        live=live,
        cards=CARDS,
        desired=(Desired("u1", "pay", configuration, granted=True),),
        mdevs={"u1": mdev},
        current=True,
        allocatable=frozenset({"pay"}),
        **more,
    )


SOURCE = holding("n1", WHOLE, FEWER)
BARE = node("n2", live="unknown", cards=CARDS)


@pytest.mark.parametrize("live", ["v1", "v4"])
def test_the_shape_is_what_the_guest_has_where_that_is_less(live):
    assert shape_for(PAY, holding("n1", WHOLE, FEWER, live=live), BARE) == FEWER
    assert shape_for(PAY, holding("n1", WHOLE, WHOLE, live=live), BARE) is None
    assert shape_for(PAY, holding("n1", WHOLE, FEWER, live="no"), BARE) is None
    assert shape_for(PAY, None, BARE) is None


def test_control_domains_that_the_guest_does_not_have_come_after_the_move():
    """They are taken over as well (L-11)."""
    matrix = dataclasses.replace(PAY, matrix=dataclasses.replace(WHOLE, control_domains=IdSet.of(4, 99)))
    guest = dataclasses.replace(WHOLE, control_domains=IdSet.of(4))
    source = holding("n1", matrix.matrix, guest, live="v4")
    assert shape_for(matrix, source, BARE) == guest


def test_a_target_is_made_so_and_only_then_let_go():
    def plan(target):
        situation = Situation(PAY, None, {"n1": SOURCE, "n2": target})
        return plan_gate(situation, (RUNNING, TARGET))

    first = plan(BARE)
    assert first.claim.shapes == {"n2": FEWER}
    (shall,) = desired_mdevs(BARE, [PAY], {}, {"pay": first.claim})
    assert shall.configuration == FEWER
    assert plan(holding("n2", WHOLE, WHOLE)).actions == (), "made with more, it is made anew"
    assert plan(holding("n2", FEWER, FEWER)).actions == (Lift(TARGET, "n2"),)


def test_an_evacuation_makes_it_so_too():
    def plan(target):
        source = dataclasses.replace(POD, gated=False, node="n1")
        situation = Situation(PAY, None, {"n1": SOURCE, "n2": target})
        return plan_evacuation(situation, VM, source, Traffic())

    assert plan(BARE).shapes == {"n2": FEWER}
    assert plan(BARE).start == ""
    assert plan(holding("n2", FEWER, FEWER)).start == "n2"


def test_without_the_move_it_holds_what_the_matrix_says():
    moved = holding("n2", FEWER, FEWER)
    assert standing(moved, PAY, None, FEWER).state == "Ready"
    assert standing(moved, PAY, None).state == "Pending"
    (shall,) = desired_mdevs(moved, [PAY], {}, {"pay": Claim(frozenset({"n2"}))})
    assert shall.configuration == WHOLE
