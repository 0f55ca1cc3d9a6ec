"""Master keys and EP11 modes in a status: read, attested, or sampled before."""

import pytest

from vfio_ap_agent import status
from vfio_ap_agent.desired import parse
from vfio_ap_agent.keys import picture

from .support import A, Node, wanted

MINE = {"AES CUR": "0x" + "ab" * 8}
CARDS = [{"id": 5, "type": "CEX8C", "keys": "bank"}, {"id": 6, "type": "CEX8P", "keys": "bank"}]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, adapters=CARDS, usageDomains="4,6")


async def document(node, *mdevs, attested=()):
    outcome = await node.apply(*mdevs)
    await node.samples.take(node.witness, outcome.view)
    desired = parse({"attestedKeys": list(attested)})
    keys = picture(outcome.view, node.samples, desired.attested)
    built = status.build(outcome.view, outcome.plan, outcome.reports, node.samples, keys)
    return built, [str(problem) for problem in (*desired.problems, *keys.problems)]


def sets_of(built, adapter):
    """Return, by domains, the set and the sample's time."""
    sets = {item["name"]: item for item in built["keySets"]}
    row = next(item for item in built["adapters"] if item["id"] == adapter)
    return {use["domains"]: (sets[use["set"]], use.get("sampled", "")) for use in row["keys"]}


def word(adapters, domains, patterns=None):
    return {"adapters": adapters, "domains": domains, "patterns": patterns or MINE}


async def test_what_can_be_read_counts_more_than_any_word(node):
    built, problems = await document(node, attested=[word("5", "4,6")])
    (found,) = sets_of(built, 5).values()
    assert found[0]["patterns"]["AES CUR"] != MINE["AES CUR"]
    assert "attested" not in found[0]
    assert len(problems) == 1
    assert problems[0].startswith("05.0004: holds 0x")
    assert "attested is 0xabab" in problems[0]


async def test_a_word_that_agrees_with_what_is_read_is_no_news(node):
    built, _ = await document(node)
    (read, _), *_ = sets_of(built, 5).values()
    again, problems = await document(node, attested=[word("5", "4,6", {"AES CUR": read["patterns"]["AES CUR"]})])
    assert (again, problems) == (built, [])


async def test_a_word_counts_for_queues_that_guests_have_and_is_shown_as_such(node):
    built, problems = await document(node, wanted(A, "5", "4"), attested=[word("5", "4")])
    found = sets_of(built, 5)
    assert (found["4"][0]["patterns"], found["4"][0]["attested"], found["4"][1]) == (MINE, True, "")
    assert "attested" not in found["6"][0]
    assert problems == []


async def test_without_a_word_the_last_sample_counts_with_its_time(node):
    built, _ = await document(node, wanted(A, "5-6", "4"))
    for adapter in (5, 6):
        keys, sampled = sets_of(built, adapter)["4"]
        assert ("attested" not in keys, sampled) == (True, "2026-11-21T10:00:00Z")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (word("5", "4", {"AES CUR": "abc"}), "pattern"),
        (word("5", "4", {"DES CUR": MINE["AES CUR"]}), "a register is AES"),
        (word("x", "4"), "is not an id"),
        ({"adapters": "5", "domains": "4"}, "Field required"),
    ],
)
async def test_a_word_that_makes_no_sense_is_named_and_the_others_count(node, bad, says):
    attested = [bad, word("5", "6")]
    built, problems = await document(node, wanted(A, "5", "4,6"), attested=attested)
    assert sets_of(built, 5)["6"][0]["attested"] is True
    assert len(problems) == 1
    assert problems[0].startswith("spec.attestedKeys[0]")
    assert says in problems[0]


async def test_two_words_about_one_queue_are_not_both_believed(node):
    other = word("5", "4", {"AES CUR": "0x" + "cd" * 8})
    built, problems = await document(node, wanted(A, "5", "4"), attested=[word("5", "4"), other])
    assert sets_of(built, 5)["4"][0]["patterns"] == MINE
    assert problems == ["spec.attestedKeys[1]: 05.0004 is attested twice; name each queue once"]


async def test_modes_and_serial_of_an_ep11_adapter_outlive_its_last_queue_on_the_host(node):
    before, _ = await document(node)
    built, _ = await document(node, wanted(A, "6", "4,6"))
    was, now = (next(item for item in each["adapters"] if item["id"] == 6) for each in (before, built))
    assert now["guest"] == "4,6"
    assert now["opModes"] == was["opModes"]
    assert "FIPS2011" in now["opModes"]
    assert now["serial"] == was["serial"] != ""
    assert sets_of(built, 6)["4,6"][0]["opModes"]
    cca = next(item for item in built["adapters"] if item["id"] == 5)
    assert "opModes" not in cca
