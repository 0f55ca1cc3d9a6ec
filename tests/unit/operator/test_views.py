"""Documents that make no sense become views that say so."""

import pytest

from vfio_ap.idset import IdSet
from vfio_ap_kube.snapshot import matrices, nodes

SPEC = {"adapters": [5, "0x6"], "domains": ["4", "0xab"], "allowedNamespaces": ["bank"]}


def document(spec, **more):
    return {
        "metadata": {"name": "pay", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    } | more


def test_a_matrix_is_read():
    view = matrices.matrix_view(document(SPEC, status={"uuid": "u1"}))
    assert (view.matrix.adapters, view.matrix.domains, view.uuid) == (IdSet.of(5, 6), IdSet.of(4, 171), "u1")
    assert view.namespaces == {"bank"}
    assert view.invalid is None


@pytest.mark.parametrize(
    ("change", "reason", "word"),
    [
        ({"adapters": [5, "0x5"]}, "DuplicateId", "spec.adapters"),
        ({"adapters": [256]}, "IdOutOfRange", "256"),
        ({"domains": ["08"]}, "NotAnId", "octal"),
        ({"adapters": []}, "InvalidSpec", "spec.adapters"),
        ({"allowedNamespaces": None}, "InvalidSpec", "spec.allowedNamespaces"),
        ({"surprise": 1}, "InvalidSpec", "spec.surprise"),
        ({"uuid": "nonsense"}, "InvalidSpec", "spec.uuid"),
        ({"expectedKeys": {"AES TOP": "0x" + "a" * 16}}, "InvalidSpec", "a register is"),
        ({"expectedKeys": {"AES CUR": "0xabc"}}, "InvalidSpec", "spec.expectedKeys"),
        ({"variants": [{"adapters": [5], "domains": [4]}]}, "InvalidSpec", "names the machines or the labels"),
        (
            {"variants": [{"machines": ["m"], "adapters": [5, "0x5"], "domains": [4]}]},
            "DuplicateId",
            "spec.variants[0].adapters",
        ),
    ],
)
def test_a_matrix_that_makes_no_sense_says_where(change, reason, word):
    view = matrices.matrix_view(document(SPEC | change))
    assert view.invalid is not None
    assert view.invalid.reason == reason
    assert word in view.invalid.message
    assert not len(view.matrix)


def test_variants_and_expected_keys_are_read():
    variant = {"machines": ["IBM-1"], "nodeSelector": {"row": "b"}, "adapters": [9], "domains": ["4-5"]}
    keys = {"AES CUR": "0x" + "a" * 16}
    view = matrices.matrix_view(document(SPEC | {"variants": [variant], "expectedKeys": keys}))
    assert view.invalid is None
    assert view.expected == keys
    (found,) = view.variants
    assert (found.machines, found.selector) == ({"IBM-1"}, {"row": "b"})
    assert (str(found.matrix), view.adapters) == ("adapters 9 x domains 4-5", IdSet.of(5, 6, 9))


def test_accepted_counts_for_this_generation_only():
    condition = {"type": "Accepted", "status": "True", "observedGeneration": 3}
    assert matrices.matrix_view(document(SPEC, status={"conditions": [condition]})).accepted
    old = condition | {"observedGeneration": 2}
    assert not matrices.matrix_view(document(SPEC, status={"conditions": [old]})).accepted


def test_a_status_of_nonsense_is_a_node_that_is_not_known():
    node = nodes.node_view(
        {"metadata": {"name": "n1"}, "spec": {}, "status": {"adapters": "many"}},
        labels={},
        ready=True,
        allocatable=frozenset(),
    )
    assert not node.reported
    assert not node.alive


def test_an_entry_of_nonsense_in_a_node_spec_is_left_out():
    good = {"uuid": "u1", "matrix": "pay", "adapters": "5", "domains": "4"}
    node = nodes.node_view(
        {
            "metadata": {"name": "n1"},
            "spec": {"mdevs": [good, {"uuid": "u2"}, good | {"uuid": "u3", "adapters": "x"}]},
        },
        labels={},
        ready=True,
        allocatable=frozenset(),
    )
    assert [item.uuid for item in node.desired] == ["u1"]


def test_only_resources_with_a_count_are_allocatable():
    status = {"allocatable": {"cpu": "4", "ap.s390x.io/pay": "1", "ap.s390x.io/gone": "0"}}
    assert nodes.allocatable_matrices({"status": status}) == {"pay"}
