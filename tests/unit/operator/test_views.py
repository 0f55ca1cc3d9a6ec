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


APNODE = {
    "metadata": {"name": "n1", "generation": 1},
    "spec": {"hostReserved": [{"adapters": "6", "domains": "4"}, {"adapters": "x", "domains": "4"}]},
    "status": {
        "machine": {"id": "IBM-3931-1"},
        "kernel": {"release": "7.3", "liveMigration": "v4", "maxAdapter": 255, "maxDomain": 255},
        "usageDomains": "4,6",
        "controlDomains": "4",
        "adapters": [
            {
                "id": 5,
                "type": "CEX8P",
                "functions": "0x87800000",
                "state": "Checkstopped",
                "host": "4",
                "guest": "6",
                "bound": "6",
                "opModes": ["FIPS2011", "FIPS2009"],
                "keys": [
                    {"domains": "4", "set": "k1"},
                    {"domains": "6", "set": "k2", "sampled": "2026-01-01T00:00:00Z"},
                    {"domains": "9", "set": "cut"},
                ],
            },
            {"id": 300, "type": "CEX8C"},
        ],
        "keySets": [
            {"name": "k1", "patterns": {"WK NEW": "empty", "WK CUR": "0x1"}},
            {"name": "k2", "patterns": {"WK CUR": "0x2"}, "opModes": ["BSI2011"], "attested": True},
        ],
        "mdevs": [
            {
                "uuid": "u1",
                "state": "Ready",
                "adapters": "5,9",
                "domains": "4,6",
                "controlDomains": "4,6",
                "guestAdapters": "5",
                "guestDomains": "4,6",
            },
            {"uuid": "u2", "state": "Incomplete", "adapters": "6", "domains": "4", "reason": "GuestMatrixUnknown"},
        ],
    },
}


def test_what_a_verdict_looks_at_is_read():
    node = nodes.node_view(APNODE, labels={}, ready=True, allocatable=frozenset())
    assert (node.machine, node.release, node.live) == ("IBM-3931-1", "7.3", "v4")
    assert node.cards.keys() == {5}, "an adapter of no sense is not there"
    card = node.cards[5]
    assert (card.state, card.functions, card.bound) == ("Checkstopped", 0x87800000, IdSet.of(6))
    assert (card.domains, card.op_modes) == (IdSet.of(4, 6), ("FIPS2009", "FIPS2011"))
    first, second = node.keys[5]
    assert (first.domains, first.keys.patterns) == (IdSet.of(4), (("WK CUR", "0x1"), ("WK NEW", "empty")))
    assert (second.sampled, second.keys.attested, second.keys.op_modes) == (
        "2026-01-01T00:00:00Z",
        True,
        ("BSI2011",),
    )
    guest = node.mdevs["u1"].guest
    assert guest is not None
    assert (str(guest), guest.control_domains) == ("adapters 5 x domains 4,6", IdSet.of(4))
    assert node.mdevs["u2"].guest is None, "what cannot be read is not known, and not nothing"


def test_a_reservation_that_cannot_be_read_reserves_everything():
    first, second = nodes.node_view(APNODE, labels={}, ready=True, allocatable=frozenset()).reserved
    assert (str(first), len(second)) == ("adapters 6 x domains 4", 256 * 256)


@pytest.mark.parametrize(("status", "unready"), [("True", False), ("False", True), ("Unknown", True)])
def test_an_agent_that_cannot_read_its_host_is_taken_at_its_word(status, unready):
    """What it read before is still in its status, and is no answer any more."""
    ready = {"type": "Ready", "status": status, "reason": "SysfsTimeout", "message": "apmask did not answer"}
    ready |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    apnode = {"metadata": {"name": "n1", "generation": 1}, "spec": {}, "status": {"conditions": [ready]}}
    view = nodes.node_view(apnode, labels={}, ready=True, allocatable=frozenset())
    assert (view.unready is not None) is unready
    if view.unready is not None:
        assert (view.unready.subject, view.unready.message) == ("n1", "apmask did not answer")
