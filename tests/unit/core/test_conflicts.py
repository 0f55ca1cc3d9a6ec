"""Which matrices contradict each other, and which one stands."""

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.fleet.conflicts import refusal_of
from vfio_ap.fleet.views import MatrixView, NodeView, Variant
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

EAST, WEST = NodeView("east", {"zone": "e"}), NodeView("west", {"zone": "w"})
NODES = {"east": EAST, "west": WEST}


def matrix(name, adapters="5", domains="4", **more):
    more = {"uuid": f"uuid-{name}", "created": f"2026-01-0{len(name)}"} | more
    return MatrixView(name, matrix=Matrix(IdSet.parse(adapters), IdSet.parse(domains)), **more)


def test_the_older_one_stands_and_the_queue_is_named():
    old, new = matrix("a", "5,6", "4,171"), matrix("bb", "6", "171,200")
    refusal = refusal_of(new, [old, new], NODES)
    assert refusal is not None
    assert refusal.reason == "Overlap"
    assert "APMatrix a on node east: queue 06.00ab" in refusal.message
    assert refusal_of(old, [old, new], NODES) is None


def test_an_edit_does_not_take_queues_from_a_matrix_that_works():
    edited, works = matrix("a"), matrix("bb", accepted=True)
    assert refusal_of(edited, [works], NODES) is not None
    assert refusal_of(works, [edited], NODES) is None


def test_different_nodes_may_have_the_same_queues():
    old, new = matrix("a", selector={"zone": "e"}), matrix("bb", selector={"zone": "w"})
    assert refusal_of(new, [old], NODES) is None


def test_a_uuid_is_one_matrix_even_on_different_nodes():
    old = matrix("a", "5", selector={"zone": "e"}, uuid="same")
    new = matrix("bb", "9", selector={"zone": "w"}, uuid="same")
    refusal = refusal_of(new, [old], NODES)
    assert refusal is not None
    assert refusal.reason == "UuidInUse"
    assert "delete this one" in refusal.remedy, "spec.uuid never changes, so no edit mends it"


def test_a_matrix_on_its_way_out_still_has_its_queues():
    assert refusal_of(matrix("bb"), [matrix("a", deleting=True)], NODES) is not None


@pytest.mark.parametrize("other", [("5", "6"), ("6", "4")])
def test_the_same_adapter_or_domain_alone_is_no_conflict(other):
    assert refusal_of(matrix("bb", *other), [matrix("a")], NODES) is None


def test_ids_that_make_no_sense_are_the_first_reason():
    nonsense = Refusal("DuplicateId", "bb", "5 is named twice")
    assert refusal_of(matrix("bb", invalid=nonsense), [matrix("a")], NODES) is nonsense


def test_variants_count_where_they_are_for_the_node():
    east = Variant(Matrix(IdSet.of(9), IdSet.of(4)), selector={"zone": "e"})
    moved = matrix("a", variants=(east,), selector={"zone": "e"})
    assert refusal_of(matrix("bb"), [moved], NODES) is None, "its own ids are nowhere"
    refusal = refusal_of(matrix("bb", "9"), [moved], NODES)
    assert refusal is not None
    assert "APMatrix a on node east: queue 09.0004" in refusal.message
    both = matrix("bb", "9", selector={"zone": "w"})
    assert refusal_of(both, [matrix("a", variants=(east,))], NODES) is None, "the variant is not for the west"
    two = matrix("bb", "7", variants=(Variant(Matrix(IdSet.of(9), IdSet.of(4)), selector={"zone": "e"}),))
    assert refusal_of(two, [matrix("a", "6", variants=(east,))], NODES) is not None
