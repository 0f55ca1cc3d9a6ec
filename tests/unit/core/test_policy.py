"""Which policy stands for a matrix, and what is said of one that stands for none."""

import dataclasses

from vfio_ap.errors import Refusal
from vfio_ap.fleet.policy import PolicyView, overruled, policy_of
from vfio_ap.fleet.views import MatrixView

PROD = MatrixView("pay", "u1", labels={"tier": "prod", "team": "pay"})
TEST = MatrixView("try", "u2", labels={"tier": "test"})
GENERAL = PolicyView("general", created="2026-01-01")
CAREFUL = PolicyView("careful", {"tier": "prod"}, created="2026-02-01")
DEFAULT = PolicyView()


def test_without_a_policy_the_defaults_stand():
    assert policy_of(PROD, [], DEFAULT) is DEFAULT
    assert policy_of(TEST, [CAREFUL], DEFAULT) is DEFAULT


def test_the_one_with_more_labels_stands_then_the_older_then_the_first_by_name():
    assert policy_of(PROD, [GENERAL, CAREFUL], DEFAULT) is CAREFUL
    assert policy_of(TEST, [GENERAL, CAREFUL], DEFAULT) is GENERAL
    younger = dataclasses.replace(GENERAL, name="another", created="2026-03-01")
    assert policy_of(TEST, [younger, GENERAL], DEFAULT) is GENERAL
    same = dataclasses.replace(GENERAL, name="a")
    assert policy_of(TEST, [GENERAL, same], DEFAULT) is same


def test_one_that_selects_nothing_or_is_overruled_everywhere_says_so():
    nothing = PolicyView("nothing", {"tier": "gone"})
    assert overruled(nothing, [PROD, TEST], [nothing]).reason == "SelectsNothing"
    twin = dataclasses.replace(CAREFUL, name="twin", created="2026-05-01")
    refusal = overruled(twin, [PROD, TEST], [GENERAL, CAREFUL, twin])
    assert (refusal.reason, "careful" in refusal.message) == ("Overruled", True)
    assert overruled(CAREFUL, [PROD, TEST], [GENERAL, CAREFUL, twin]) is None


def test_one_that_makes_no_sense_stands_for_nothing():
    broken = dataclasses.replace(GENERAL, invalid=Refusal("InvalidSpec", "general", "spec.modes"))
    assert policy_of(PROD, [broken], DEFAULT) is DEFAULT
    assert overruled(broken, [PROD], [broken]).reason == "InvalidSpec"
