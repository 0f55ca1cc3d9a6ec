"""kubectl ap nodes."""

import json

import pytest
import yaml

from vfio_ap_cli.reading.trim import trimmed

from .world import AES, FRESH, OTHER, adapter, apnode, cluster, device, lease, node, replaced, without


def lines(text):
    return [line.split() for line in text.splitlines()]


def test_a_line_per_node(ap):
    done = ap(cluster(), "nodes")
    assert done.exit_code == 0
    head, first, *_ = lines(done.stdout)
    assert head == ["NODE", "MACHINE", "LPAR", "ADAPTERS", "HOST", "GUEST", "MDEVS", "LIVE", "AGENT", "STATE"]
    assert first == ["lnx1", "IBM-3931-A1001", "LNX1", "5-6", "(2)", "30", "2", "1/1", "v4", "alive", "Ready"]


def test_a_silent_agent_makes_its_nodes_word_history(ap):
    old = lease("lnx2", renewed="2026-11-21T11:50:00Z")
    done = ap(replaced(cluster(), old), "nodes", columns=150)
    assert "silent 10m  unknown (AgentSilent; was Ready)" in done.stdout


@pytest.mark.parametrize(
    ("by_its_clock", "written", "word"),
    [("2026-11-21T06:00:00Z", FRESH, "alive"), ("2026-11-21T18:00:00Z", "2026-11-21T11:50:00Z", "silent 10m")],
    ids=["slow", "fast and dead"],
)
def test_an_agents_clock_says_nothing_of_whether_it_lives(ap, by_its_clock, written, word):
    told = lease("lnx2", renewed=by_its_clock)
    told["metadata"]["managedFields"] = [{"manager": "vfio-ap-agent", "time": written}]
    for documents in (replaced(cluster(), told), replaced(cluster(), trimmed(told))):
        found = {row["name"]: row["agent"] for row in json.loads(ap(documents, "nodes", "-o", "json").stdout)}
        assert found == {"lnx1": "alive", "lnx2": word, "lnx3": "alive"}


def test_an_agent_without_a_lease_is_silent(ap):
    done = ap(without(cluster(), "Lease", "lnx2"), "nodes", "-o", "json")
    found = {row["name"]: row["agent"] for row in json.loads(done.stdout)}
    assert found == {"lnx1": "alive", "lnx2": "silent", "lnx3": "alive"}


def test_a_node_that_is_not_ready_is_unknown(ap):
    done = ap(replaced(cluster(), node("lnx2", ready=False)), "nodes", columns=150)
    assert "unknown (NodeNotReady; was Ready)" in done.stdout


def test_forms(ap):
    assert ap(cluster(), "nodes", "-o", "name").stdout == "apnode/lnx1\napnode/lnx2\napnode/lnx3\n"
    assert "IBM-3931-00000000000A1001" in ap(cluster(), "nodes", "-o", "wide").stdout
    assert yaml.safe_load(ap(cluster(), "nodes", "-o", "yaml").stdout)[0]["guestQueues"] == 2


def test_one_node_shows_its_grid_devices_and_keys(ap):
    text = ap(cluster(), "nodes", "lnx1").stdout
    assert ["5", "CEX8C", *"hhhh", "A*", *"hhhhhhhhhhh"] in lines(text)
    assert ["6", "CEX8C", *"hhhhghhhhhhhhhhh"] in lines(text)
    assert "payments  in use by bank/ledger" in text
    assert "adapter 6 domains 4" in text
    assert AES in text
    assert "empty" not in text


def test_queues_reserved_for_the_host_are_told(ap):
    reserved = apnode("lnx1", reserved=[{"adapters": "6", "domains": "0-3"}])
    assert "adapters 6 x domains 0-3" in ap(replaced(cluster(), reserved), "nodes", "lnx1").stdout


def test_a_device_that_is_not_ready_says_why(ap):
    broken = device("payments", OTHER, "5", "4", state="Incomplete", message="adapter 5 is kept from guests")
    text = ap(replaced(cluster(), apnode("lnx1", mdevs=[broken])), "nodes", "lnx1", columns=200).stdout
    assert "Incomplete" in text
    assert "adapter 5 is kept from guests" in text


def test_a_full_machine_is_drawn_at_80_columns(ap):
    many = [adapter(n, host="0-84") for n in range(60)]
    text = ap(replaced(cluster(), apnode("lnx1", many, usageDomains="0-84")), "nodes", "lnx1", columns=80).stdout
    grid = text[text.index("adapters x domains") : text.index("master keys")]
    assert ["0-59", "CEX8C", "h"] in lines(grid)
    assert max(map(len, grid.splitlines())) <= 80


def test_a_node_that_is_not_there_is_a_no(ap):
    done = ap(cluster(), "nodes", "lnx9")
    assert done.exit_code == 1
    assert "there is no APNode lnx9" in done.stderr


def test_a_status_of_nonsense_is_said(ap):
    broken = apnode("lnx2")
    broken["status"]["adapters"] = "many"
    done = ap(replaced(cluster(), broken), "nodes", columns=160)
    assert "NotReady (UnreadableStatus)" in done.stdout
