"""Files may have anything in them: every command answers or says in a sentence that it cannot."""

import copy
import json
import random

import pytest

from .world import apnode, cluster, matrix, vm

JUNK = [None, 3, -1, "x", "", [], {}, [1], {"a": 1}, True, "0-999", "5,5", [None], ["x"], "2026"]
COMMANDS = [
    ["nodes"],
    ["nodes", "lnx1"],
    ["matrix"],
    ["matrix", "payments"],
    ["check", "vm/ledger", "-n", "bank"],
    ["explain", "vm/ledger", "-n", "bank"],
    ["explain", "apm/payments"],
    ["doctor"],
]


def places(value, path=()):
    if path and path[0] != "kind":
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def spoilt(document, chance):
    """Return the document with something in it replaced by nonsense, or gone."""
    document = copy.deepcopy(document)
    *before, last = chance.choice(list(places(document)))
    target = document
    for key in before:
        target = target[key]
    if chance.random() < 0.3:
        del target[last]
    else:
        target[last] = chance.choice(JUNK)
    return document


@pytest.mark.parametrize("seed", range(12))
def test_nonsense_is_answered_in_words(ap, seed):
    chance = random.Random(seed)
    whole = [d for d in cluster() if d["kind"] not in ("CustomResourceDefinition", "MustGather")]
    documents = [spoilt(d, chance) if chance.random() < 0.15 else d for d in whole]
    files = [spoilt(d, chance) for d in (matrix("new", [6], [9]), vm("teller", "new"), apnode("lnx2"))]
    for command in COMMANDS:
        judge(ap(documents, *command))
    judge(ap(documents, "plan", "-f", "-", input=json.dumps({"kind": "List", "items": files})))


def judge(done):
    assert done.exit_code in (0, 1, 2), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 0 or done.output


def test_what_makes_no_sense_is_misuse(ap):
    broken = matrix("payments", [5], [4])
    broken["status"]["conditions"] = "many"
    done = ap([broken, apnode("lnx1")], "matrix")
    assert done.exit_code == 2
    assert "makes no sense" in done.stderr
    assert done.stderr.count("\n") == 1
