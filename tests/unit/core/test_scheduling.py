"""Where a pod may run, as the scheduler would say."""

import pytest

from vfio_ap.fleet.scheduling import Constraints, Expression, Taint, Toleration

LABELS = {"zone": "east", "size": "8"}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (Expression("zone", "In", ("east", "west")), True),
        (Expression("zone", "In", ("west",)), False),
        (Expression("zone", "NotIn", ("west",)), True),
        (Expression("absent", "NotIn", ("west",)), True),
        (Expression("zone", "Exists"), True),
        (Expression("absent", "DoesNotExist"), True),
        (Expression("size", "Gt", ("7",)), True),
        (Expression("size", "Lt", ("7",)), False),
        (Expression("zone", "Gt", ("7",)), False),
        (Expression("metadata.name", "In", ("n1",), on_field=True), True),
        (Expression("metadata.uid", "In", ("n1",), on_field=True), False),
        (Expression("zone", "Resembles", ("east",)), False),
    ],
)
def test_expressions(expression, holds):
    assert expression.holds("n1", LABELS) is holds


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration("k", "Exists"), True),
        (Toleration("k", "Equal", "v"), True),
        (Toleration("k", "Equal", "other"), False),
        (Toleration("k", "Exists", effect="NoExecute"), False),
        (Toleration("other", "Exists"), False),
    ],
)
def test_tolerations(toleration, covers):
    assert toleration.covers(Taint("k", "NoSchedule", "v")) is covers


def test_one_term_must_hold_as_a_whole():
    yes, no = Expression("zone", "Exists"), Expression("absent", "Exists")
    assert Constraints(terms=((yes, no), (yes,))).refusal("n1", LABELS, ()) == ""
    assert "affinity" in Constraints(terms=((yes, no),)).refusal("n1", LABELS, ())
    assert "affinity" in Constraints(terms=((),)).refusal("n1", LABELS, ())


def test_a_preference_against_a_node_is_no_refusal():
    assert Constraints().refusal("n1", LABELS, (Taint("k", "PreferNoSchedule"),)) == ""
    assert "taint k:NoExecute" in Constraints().refusal("n1", LABELS, (Taint("k", "NoExecute"),))
