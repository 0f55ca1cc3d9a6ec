"""kubectl ap plan: what would change, computed without a cluster; and nothing is ever written."""

import json

import pytest
import yaml

from .world import OTHER, UUID, adapter, apnode, cluster, device, kubevirt, matrix, replaced, vm


@pytest.fixture
def plan(ap, tmp_path):
    """Plan these objects on these documents; return exit code, answer as JSON and page."""

    def run(documents, *files):
        path = tmp_path / "wanted.yaml"
        path.write_text(yaml.safe_dump_all(files))
        done = ap(documents, "plan", "-f", str(path), "-o", "json")
        page = ap(documents, "plan", "-f", str(path), columns=400)
        assert done.exit_code == page.exit_code, page.output
        return done.exit_code, json.loads(done.stdout), page.stdout

    return run


def wanted(name, adapters, domains, **spec):
    found = matrix(name, adapters, domains, **{"placement": "Everywhere", **spec})
    del found["status"]
    found["metadata"] = {"name": name}
    return found


def devices(answer):
    return {n["node"]: [(d["verb"], d["matrix"], d["then"]) for d in n["devices"]] for n in answer["nodes"]}


def test_a_new_matrix_everywhere(plan):
    code, answer, page = plan(cluster(), wanted("archive", [6], [9, 10]))
    assert code == 0
    assert set(devices(answer)) == {"lnx1", "lnx2", "lnx3"}
    assert devices(answer)["lnx2"] == [("add", "archive", "adapters 6 x domains 9-10")]
    masks = {n["node"]: n["masks"] for n in answer["nodes"]}
    # One adapter or two domains: two adapters have four queues, one adapter has sixteen
    assert (masks["lnx2"]["leave"], masks["lnx2"]["along"], masks["lnx2"]["queues"]) == (
        4,
        2,
        "adapter 5 domains 9-10",
    )
    assert "UUID to be assigned" in page
    assert page.rstrip().endswith("all of it would be accepted; nothing was written")


def test_on_demand_nothing_is_made_before_a_vm_asks(plan):
    code, answer, page = plan(cluster(), wanted("archive", [6], [9], placement="OnDemand"))
    assert code == 0
    assert devices(answer)["lnx2"] == [("would add", "archive", "adapters 6 x domains 9")]
    assert "no device is made before a VM asks for it" in page


def test_with_its_vm_the_node_is_named(plan):
    code, answer, _ = plan(cluster(), wanted("archive", [6], [9], placement="OnDemand"), vm("teller", "archive"))
    assert code == 0
    assert devices(answer) == {"lnx1": [("add", "archive", "adapters 6 x domains 9")]}


def test_a_vms_selector_counts(plan):
    teller = vm("teller", "archive")
    teller["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "archive"}
    _, answer, _ = plan(cluster(), wanted("archive", [6], [9], placement="OnDemand"), teller)
    assert set(devices(answer)) == {"lnx3"}


def test_a_vm_of_a_matrix_that_is_taken_would_wait(plan):
    code, answer, page = plan(cluster(), vm("teller", "payments"))
    assert code == 1
    assert answer["waits"][0]["reason"] == "MatrixInUse"
    assert "VM bank/ledger has it" in page


def test_a_vm_in_a_namespace_that_is_not_allowed_would_wait(plan):
    code, answer, _ = plan(
        cluster(), wanted("archive", [6], [9], placement="OnDemand"), vm("t", "archive", "shop")
    )
    assert (code, answer["waits"][0]["reason"]) == (1, "NamespaceNotAllowed")


def test_a_vm_of_no_matrix_that_exists_is_refused(plan):
    code, answer, _ = plan(cluster(), vm("teller", "nosuch"))
    assert (code, answer["objects"][0]["refusal"]["reason"]) == (1, "NoSuchMatrix")


def test_an_overlap_is_refused_and_changes_nothing(plan):
    code, answer, page = plan(cluster(), wanted("greedy", [5], ["0-8"]))
    assert code == 1
    assert answer["objects"][0]["refusal"]["reason"] == "Overlap"
    assert "queue 05.0004" in page
    assert answer["nodes"] == []


def test_an_edit_shows_both_and_who_uses_it(plan):
    edited = wanted("payments", [5], [4, 7], placement="OnDemand")
    code, answer, page = plan(cluster(), edited)
    assert code == 0
    assert answer["objects"][0]["verb"] == "change"
    (change,) = answer["nodes"][0]["devices"]
    assert (change["now"], change["then"]) == ("adapters 5 x domains 4", "adapters 5 x domains 4,7")
    assert change["usedBy"] == "bank/ledger"
    assert "used by bank/ledger" in page


def test_what_is_there_already_is_unchanged(plan):
    same = wanted("payments", [5], [4], placement="OnDemand")
    code, answer, _ = plan(cluster(), same)
    assert (code, answer["objects"][0]["verb"], answer["nodes"]) == (0, "unchanged", [])
    assert answer["same"] == ["lnx1", "lnx2", "lnx3"]


def test_an_edit_that_makes_room_lets_another_stand(plan):
    greedy = matrix("greedy", [5], [4, 9], uuid="", created="2026-11-21T12:01:00Z")
    _, answer, _ = plan([*cluster(), greedy], wanted("payments", [5], [3], placement="OnDemand"))
    assert ("apmatrix/greedy", "would stand again") in [(o["object"], o["verb"]) for o in answer["objects"]]


def test_a_reserved_queue_is_refused_where_it_is_reserved(plan):
    keeps = apnode("lnx2", reserved=[{"adapters": "6", "domains": "9"}])
    code, answer, page = plan(replaced(cluster(), keeps), wanted("archive", [6], [9]))
    assert code == 1
    refused = {n["node"]: [r["reason"] for r in n["refusals"]] for n in answer["nodes"]}
    assert refused == {"lnx1": [], "lnx2": ["HostReserved"], "lnx3": []}
    assert "06.0009" in page


def test_reserving_what_a_matrix_has_is_refused(plan):
    reserve = {
        "kind": "APNode",
        "metadata": {"name": "lnx1"},
        "spec": {"hostReserved": [{"adapters": "5", "domains": "4"}]},
    }
    code, answer, _ = plan(cluster(), reserve)
    assert (code, answer["nodes"][0]["refusals"][0]["subject"]) == (1, "05.0004")


def test_ids_that_the_node_has_not(plan):
    code, answer, page = plan(cluster(), wanted("absent", [9], [4], placement="OnDemand"))
    assert code == 1
    assert {r["reason"] for n in answer["nodes"] for r in n["refusals"]} == {"QueueAbsent"}
    assert "nodes lnx1, lnx2, lnx3" in page


def test_over_provisioning_everywhere_is_allowed(plan):
    code, answer, _ = plan(cluster(), wanted("future", [6, 9], [4], nodeSelector={"zone": "archive"}))
    assert (code, answer["objects"][0]["notes"]) == (0, [])


def test_nodes_that_would_get_a_device_without_a_single_queue_are_named(plan):
    code, answer, page = plan(cluster(), wanted("future", [9], [4]))
    (note,) = answer["objects"][0]["notes"]
    assert note == "Ready only once they have one of its queues: lnx1, lnx2, lnx3 (NothingPresent)"
    assert (code, note in page) == (0, True)


def test_an_id_above_the_maximum(plan):
    small = apnode("lnx2", kernel={"maxAdapter": 63, "maxDomain": 84, "queueControl": "Masks"})
    code, answer, _ = plan(replaced(cluster(), small), wanted("big", [70], [4]))
    assert (code, [n["node"] for n in answer["nodes"] if n["refusals"]]) == (1, ["lnx2"])


def test_a_foreign_device_in_the_way(plan):
    stranger = device("", OTHER, "6", "9", state="Foreign")
    code, _, page = plan(replaced(cluster(), apnode("lnx2", mdevs=[stranger])), wanted("archive", [6], [9]))
    assert code == 1
    assert f"foreign mdev {OTHER}" in page


def test_a_node_with_driver_override_gives_single_queues(plan):
    one_by_one = apnode("lnx2", kernel={"maxAdapter": 255, "maxDomain": 255, "queueControl": "DriverOverride"})
    _, answer, page = plan(replaced(cluster(), one_by_one), wanted("archive", [6], [9, 10]))
    masks = {n["node"]: n["masks"] for n in answer["nodes"]}["lnx2"]
    assert (masks["leave"], masks["along"], masks["byOverride"]) == (2, 0, True)
    assert "driver_override" in page


def test_a_guard_is_told_and_the_rest_is_planned(plan):
    code, answer, page = plan(
        replaced(cluster(), kubevirt(mediatedDevicesConfiguration={})), wanted("a", [6], [9])
    )
    assert (code, answer["guard"]["reason"], len(answer["nodes"])) == (1, "KubeVirtUnsafe", 3)
    assert "the operator provisions nothing now" in page


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"adapters": [300]}, "IdOutOfRange"), ({"surprise": 1}, "InvalidSpec"), ({"uuid": OTHER}, "UuidChanged")],
)
def test_what_the_api_server_would_refuse(plan, spec, reason):
    edited = wanted("payments", [5], [4])
    edited["spec"] |= spec
    code, answer, _ = plan(cluster(), edited)
    assert (code, answer["objects"][0]["refusal"]["reason"]) == (1, reason)


def test_a_policy_that_selects_nothing(plan):
    policy = {"kind": "APMigrationPolicy", "metadata": {"name": "p"}, "spec": {"selector": {"a": "b"}}}
    code, answer, _ = plan(cluster(), policy)
    assert (code, answer["objects"][0]["refusal"]["reason"]) == (1, "SelectsNothing")


def test_lists_strangers_and_standard_input(ap):
    both = {"kind": "List", "items": [wanted("a", [6], [9]), {"kind": "Service", "metadata": {"name": "web"}}]}
    done = ap(cluster(), "plan", "-f", "-", input=json.dumps(both))
    assert done.exit_code == 0
    assert "not looked at: service/web" in done.stdout


def test_nothing_of_ours_is_misuse(ap):
    done = ap(cluster(), "plan", "-f", "-", input=json.dumps({"kind": "Service", "metadata": {"name": "web"}}))
    assert done.exit_code == 2
    assert "no object of ours" in done.stderr


def test_bits_that_others_cleared_are_not_given_back(plan):
    by_hand = {"adapters": "0-4,6-255", "domains": "0-255"}
    held = apnode("lnx2", [adapter(5, guest="0-15", host=""), adapter(6)], masks=by_hand)
    _, answer, _ = plan(replaced(cluster(), held), wanted("archive", [6], [9]))
    masks = {n["node"]: n["masks"] for n in answer["nodes"]}["lnx2"]
    assert (masks["leave"], masks["along"]) == (1, 16)


def test_bits_of_ours_come_back_with_their_device(plan):
    gone = wanted("payments", [5], [3], placement="OnDemand")
    _, answer, page = plan(cluster(), gone)
    masks = {n["node"]: n["masks"] for n in answer["nodes"]}["lnx1"]
    assert (masks["leave"], masks["queues"]) == (0, "adapter 6 domains 3")
    assert "no queue leaves the host or comes back" in page


def test_uuid_of_an_edit_is_kept(plan):
    _, answer, _ = plan(cluster(), wanted("payments", [5], [4, 7], placement="OnDemand"))
    assert answer["objects"][0]["uuid"] == UUID
