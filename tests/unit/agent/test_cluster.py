"""The loop of the agent in a cluster, with outlets that only remember."""

import asyncio
import contextlib
import errno
import json
import random

import pytest

from vfio_ap.host.kernellog import meaning
from vfio_ap.host.ops import Failed, Read, Write
from vfio_ap.matrix import Apqn
from vfio_ap_agent import paths
from vfio_ap_agent.cluster.agent import NodeAgent
from vfio_ap_agent.cluster.health import Health, serve
from vfio_ap_agent.cluster.publish import Publisher
from vfio_ap_agent.host.client import Stuck
from vfio_ap_agent.triggers import Triggers
from vfio_ap_agent.vigil import config_differs, keep_vigil, use_differs
from vfio_ap_kube.client import ApiError

from .support import FOREIGN, A, B, Node, matrix


class Outlet:
    """Remembers what it was told."""

    def __init__(self):
        self.published, self.said, self.created, self.granted, self.doubts = [], [], 0, [], 0

    def publish(self, document):
        if not self.published or self.published[-1] != document:
            self.published.append(document)

    def say(self, said):
        self.said += said

    async def create_node(self):
        self.created += 1

    async def grant(self, granted, reports):
        ready = {report.uuid for report in reports if report.state == "Ready"}
        self.granted.append(set(granted) & ready)
        return self.granted[-1]

    async def doubt(self):
        self.doubts += 1


class Cluster(Node):
    def __init__(self, folder, **machine):
        super().__init__(folder, **machine)
        self.outlet, self.triggers = Outlet(), Triggers(60)
        self.witness.left_behind, self.witness.last_stuck = [], None
        self.health = Health(60)
        self.begin()

    def begin(self):
        self.start_agent()
        self.agent = NodeAgent(
            self.witness, self.applier, self.samples, self.state, self.outlet, self.triggers, self.health
        )

    def wish(self, *mdevs, generation=1, status=None, **spec):
        metadata = {"name": "node1", "uid": "u", "generation": generation}
        self.agent.observe({"metadata": metadata, "spec": {"mdevs": list(mdevs), **spec}, "status": status or {}})

    @property
    def status(self):
        return self.outlet.published[-1]

    def condition(self, kind):
        return next(c for c in self.status["conditions"] if c["type"] == kind)

    def reasons(self):
        reasons = [said.reason for said in self.outlet.said]
        self.outlet.said.clear()
        return reasons


def item(uuid=A, adapters="5", domains="4", **more):
    return {"uuid": uuid, "matrix": f"m-{uuid[0]}", "adapters": adapters, "domains": domains, **more}


@pytest.fixture
def node(tmp_path):
    return Cluster(tmp_path)


async def test_the_first_pass_asks_for_an_apnode_and_changes_nothing(node):
    await node.agent.turn()
    assert node.outlet.created == 0  # the API server has not said yet that there is none
    node.agent.sync()
    await node.agent.turn()
    assert (node.outlet.created, node.witness.writes, node.outlet.published) == (1, [], [])


async def test_a_machine_without_ap_bus_gets_no_apnode(node):
    async def nothing(ops, *, deadline):
        from vfio_ap.host.ops import Failed

        return [Failed(2) for _ in ops]

    node.witness.run = nothing
    node.agent.sync()
    await node.agent.turn()
    assert (node.outlet.created, node.outlet.published) == (0, [])


async def test_a_spec_is_applied_reported_and_offered(node):
    node.wish(item(granted=True), item(B, "6", "4"), generation=3)
    await node.agent.turn()
    assert {mdev["uuid"]: mdev["state"] for mdev in node.status["mdevs"]} == {A: "Ready", B: "Ready"}
    assert node.outlet.granted[-1] == {A}
    assert [mdev.get("offered", False) for mdev in node.status["mdevs"]] == [True, False]
    assert node.status["summary"] == {"adapters": "4-6 (3)", "mdevs": "2/2", "state": "Ready"}
    assert node.status["observedGeneration"] == 3
    for kind, reason in (
        ("Ready", "Ready"),
        ("Applied", "Applied"),
        ("SysfsResponsive", "Responsive"),
        ("DriverLoaded", "Loaded"),
    ):
        assert (node.condition(kind)["status"], node.condition(kind)["reason"]) == ("True", reason)
        assert node.condition(kind)["observedGeneration"] == 3
    assert node.reasons().count("MdevMade") == 2
    await node.agent.turn()
    assert len(node.outlet.published) == 1
    assert node.reasons() == []


async def test_a_bad_part_of_a_spec_stands_in_a_condition_and_the_rest_is_done(node):
    node.wish(item(granted=True), item(B, "6", "08"), {"uuid": "nonsense"})
    await node.agent.turn()
    states = {mdev["uuid"]: (mdev["state"], mdev.get("matrix")) for mdev in node.status["mdevs"]}
    assert states == {A: ("Ready", "m-a"), B: ("Failed", "m-b")}
    applied = node.condition("Applied")
    assert (applied["status"], applied["reason"]) == ("False", "SpecInvalid")
    assert "spec.mdevs[1]" in applied["message"]
    assert "leading zero" in applied["message"]
    assert node.condition("Ready")["status"] == "True"
    assert node.status["summary"]["state"] == "Degraded (SpecInvalid)"


async def test_a_bad_edit_of_a_device_leaves_it_as_it_is(node):
    node.wish(item())
    await node.agent.turn()
    writes = len(node.witness.writes)
    node.wish(item(adapters="5-"), generation=2)
    await node.agent.turn()
    node.wish({**item(), "uuid": "?"}, generation=3)
    await node.agent.turn()
    node.wish(item(), hostReserved=[{"adapters": "x", "domains": "4"}], generation=4)
    await node.agent.turn()
    assert len(node.witness.writes) == writes
    assert "nothing is changed on the node" in node.condition("Applied")["message"]


async def test_a_reservation_that_a_device_stands_in_the_way_of_is_not_said_to_be_kept(node):
    node.wish(item())
    await node.agent.turn()
    node.wish(item(), hostReserved=[{"adapters": "5", "domains": "4"}], generation=2)
    await node.agent.turn()
    assert node.status["mdevs"][0]["state"] == "Ready"
    assert node.status["summary"]["state"] == "Degraded (HostReserved)"
    applied = node.condition("Applied")
    assert (applied["status"], applied["reason"]) == ("False", "HostReserved")
    assert "05.0004: is wanted and reserved for the host" in applied["message"]
    node.wish(item(), generation=3)
    await node.agent.turn()
    assert (node.status["summary"]["state"], node.condition("Applied")["status"]) == ("Ready", "True")


async def test_a_foreign_change_is_said_before_it_is_repaired(node):
    node.wish(item())
    await node.agent.turn()
    node.reasons()
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    order = []
    node.witness.before = lambda op: order.append((op.path.rpartition("/")[2], node.reasons()))
    await node.agent.turn()
    assert [file for file, _ in order] == ["ap_config"]
    assert "ForeignChange" in order[0][1]


@pytest.mark.parametrize(("profile", "says"), [("K7.1", "no"), ("MIGv4PLUS", "unknown"), ("MIGv1", "unknown")])
async def test_live_migration_is_said_even_while_it_is_unknown(tmp_path, profile, says):
    """Which version of it a kernel has shows on a device only, and here is none."""
    node = Cluster(tmp_path, profile=profile)
    node.wish()
    await node.agent.turn()
    assert node.status["kernel"]["liveMigration"] == says


async def test_a_wish_that_comes_during_a_pass_is_not_said_to_be_observed_by_it(node):
    node.wish(item(), generation=1)
    await node.agent.turn()

    def freeze(op):
        node.wish(item(domains="4,6", frozen=True), generation=3)

    node.wish(item(domains="4,6"), generation=2)
    node.witness.before = freeze
    await node.agent.turn()
    assert node.status["observedGeneration"] == 2
    await node.agent.turn()
    assert node.status["observedGeneration"] == 3


async def test_a_pass_that_could_not_read_the_host_answers_no_wish(node):
    """Who waits for the answer, as for a device after a move, would take what was read before for it."""
    node.wish(item(), generation=1)
    await node.agent.turn()

    async def hang(ops, *, deadline):
        raise TimeoutError

    run, node.witness.run = node.witness.run, hang
    node.wish(item(), generation=2, readBack="m1")
    await node.agent.turn()
    assert node.condition("SysfsResponsive")["status"] == "False"
    assert node.status["observedGeneration"] == 1
    node.witness.run = run
    await node.agent.turn()
    assert node.status["observedGeneration"] == 2


async def test_what_the_kernel_says_of_a_device_that_moves_is_told_with_the_next_status(node):
    node.wish(item(frozen=True), item(B, "6", "4"))
    await node.agent.turn()
    assert "kernelLog" not in node.status
    lines = [f"vfio_ap_mdev {uuid}: Queue 05.0004 not available to vfio_ap driver" for uuid in (A, B)]
    for line in lines:
        node.agent.hear(line)
    await node.agent.turn()
    assert node.status["kernelLog"] == [{"uuid": A, "lines": lines[:1]}]
    node.wish(item(), item(B, "6", "4"), generation=2)
    await node.agent.turn()
    assert node.status["kernelLog"], "the move is over, and may have failed"
    node.wish(item(frozen=True), item(B, "6", "4"), generation=3)
    await node.agent.turn()
    assert "kernelLog" not in node.status


async def test_keys_are_read_anew_when_a_queue_comes_back(node):
    node.wish(item())
    await node.agent.turn()
    old = node.samples.queues[Apqn(5, 4)].keys
    node.control.set_key(5, "other")
    await node.agent.turn()
    assert node.samples.queues[Apqn(5, 4)].keys == old
    node.wish(generation=2)
    await node.agent.turn()
    assert node.samples.queues[Apqn(5, 4)].keys != old


async def test_a_foreign_device_is_said_once(node):
    node.wish()
    await node.agent.turn()
    node.foreign()
    await node.agent.turn()
    assert node.reasons() == ["ForeignMdev"]
    await node.agent.turn()
    assert node.reasons() == []
    assert node.status["summary"]["mdevs"] == "0/0 +1 foreign"
    assert node.status["mdevs"][0]["uuid"] == FOREIGN


async def test_a_sysfs_that_does_not_answer_is_said_with_path_and_seconds_and_nothing_is_offered_anew(node):
    node.wish(item(granted=True))
    await node.agent.turn()

    async def hang(ops, *, deadline):
        raise TimeoutError

    run, node.witness.run = node.witness.run, hang
    node.witness.last_stuck = Stuck("/sys/bus/ap/apmask", 10.0, False)
    assert await node.agent.turn() is False
    condition = node.condition("SysfsResponsive")
    assert (condition["status"], condition["reason"]) == ("False", "SysfsTimeout")
    assert "/sys/bus/ap/apmask: did not answer within 10 s" in condition["message"]
    assert node.status["mdevs"], "what was read before is not forgotten"
    assert node.outlet.doubts == 1
    assert node.health.read_back is not None
    node.witness.run = run
    assert await node.agent.turn() is True
    assert node.condition("SysfsResponsive")["status"] == "True"


async def test_a_sysfs_that_talks_nonsense_or_has_gone_stops_everything(node):
    node.wish(item())

    async def garbled(ops, *, deadline):
        from vfio_ap.host.ops import Data

        results = await node.witness.host.run(ops, deadline=deadline)
        return [
            Data(b"0xff\n") if op == Read(f"{paths.BUS}/apmask") else r for op, r in zip(ops, results, strict=True)
        ]

    node.witness.run = garbled
    await node.agent.turn()
    assert node.condition("Ready")["reason"] == "NotAMask"
    assert node.condition("Applied")["status"] == "Unknown"
    node.witness.run = gone
    await node.agent.turn()
    assert node.condition("Ready")["reason"] == "HostUnreachable"


async def test_a_new_agent_that_cannot_read_the_host_does_not_take_back_what_was_read_before(node):
    """Else a matrix whose device a guest uses there could be deleted: nobody would know of it."""
    node.wish(item(), item(B, "6", "4"))
    await node.agent.turn()
    before = json.loads(json.dumps(node.status))
    node.begin()
    node.wish(item(), status=before, generation=2)
    run, node.witness.run = node.witness.run, gone
    await node.agent.turn()
    assert node.condition("Ready")["reason"] == "HostUnreachable"
    for field in ("mdevs", "adapters", "kernel", "machine", "guestQueues"):
        assert node.status[field] == before[field], field
    assert node.status["summary"]["state"] == "NotReady (HostUnreachable)"
    node.witness.run = run
    await node.agent.turn()
    assert [mdev["uuid"] for mdev in node.status["mdevs"]] == [A]


async def gone(ops, *, deadline):
    raise ConnectionError("the host's end is gone")


async def test_driver_not_loaded(tmp_path):
    node = Cluster(tmp_path, vfioApLoaded=False)
    node.wish(item())
    await node.agent.turn()
    assert node.condition("DriverLoaded")["status"] == "False"
    assert node.condition("Ready")["reason"] == "DriverNotLoaded"
    assert node.witness.writes == []


async def test_ours_by_status_when_the_state_directory_is_lost_but_never_what_was_foreign(node):
    node.foreign(B)
    node.wish(item(), item(B, "6", "4"))
    await node.agent.turn()
    status = json.loads(json.dumps(node.status))
    assert {m["uuid"]: m["state"] for m in status["mdevs"]} == {A: "Ready", B: "Failed"}
    (node.folder / "state" / "ours.json").unlink()
    node.begin()
    node.wish(item(), item(B, "6", "4"), status=status)
    await node.agent.turn()
    states = {m["uuid"]: (m["state"], m.get("reason")) for m in node.status["mdevs"]}
    assert states == {A: ("Ready", None), B: ("Failed", "ForeignMdev")}


async def test_a_uuid_that_was_ours_once_is_foreign_when_somebody_else_makes_it(node):
    node.wish(item())
    await node.agent.turn()
    status = json.loads(json.dumps(node.status))
    node.begin()
    node.wish(item(), status=status)
    await node.agent.turn()
    node.wish(generation=2)
    await node.agent.turn()
    assert node.status.get("mdevs", []) == []
    node.foreign(A)
    await node.agent.turn()
    assert [mdev["state"] for mdev in node.status["mdevs"]] == ["Foreign"]


async def test_a_deleted_apnode_removes_nothing(node):
    node.wish(item())
    await node.agent.turn()
    writes = len(node.witness.writes)
    node.agent.lose()
    node.agent.sync()
    await node.agent.turn()
    node.agent.observe({"metadata": {"name": "node1", "generation": 1}, "spec": {}})
    await node.agent.turn()
    assert len(node.witness.writes) == writes
    assert node.condition("Applied")["reason"] == "NoSpec"
    assert node.outlet.created == 1


async def test_a_full_machine_with_keys_of_its_own_in_every_queue_fits(tmp_path):
    keys = [{f"0x{domain:02x}": f"key-{number}-{domain}" for domain in range(85)} for number in range(60)]
    adapters = [{"id": number, "type": "CEX8C", "keys": keys[number]} for number in range(60)]
    node = Cluster(tmp_path, adapters=adapters, usageDomains="0-84", maxDomain=84)
    node.wish(item(adapters="0-9", domains="0-84"), item(B, "10-59", "80-84"))
    await node.agent.turn()
    size = len(json.dumps(node.status))
    assert size < 64 * 1024
    shown, of, total, *_ = node.status["summary"]["keys"].split()
    assert (of, total) == ("of", "5100")
    assert int(shown) == len(node.status["keySets"]) > 50
    used = {use["set"] for adapter in node.status["adapters"] for use in adapter.get("keys", ())}
    assert used == {item["name"] for item in node.status["keySets"]}


@pytest.mark.parametrize("kind", ["CEX8C", "CEX8A"])
async def test_a_full_machine_that_guests_use_without_any_order_fits(tmp_path, kind):
    """Ranges save nothing where no two domains follow each other; accelerators have no keys to leave out."""
    chance = random.Random(1)
    usage = range(0, 255, 3)
    adapters = [{"id": number, "type": kind} for number in range(0, 240, 4)]
    machine = {"adapters": adapters, "usageDomains": ",".join(map(str, usage)), "maxDomain": 255}
    node = Cluster(tmp_path, **machine)
    items = []
    for number in range(0, 240, 4):
        domains = ",".join(map(str, sorted(chance.sample(usage, 42))))
        items.append(item(f"{number:08x}-0000-4000-8000-000000000000", str(number), domains))
    node.wish(*items)
    await node.agent.turn()
    for wished in items:
        node.control.start_guest(f"vm-{wished['adapters']}", wished["uuid"])
    await node.agent.turn()
    assert sum(mdev.get("inUse", False) for mdev in node.status["mdevs"]) == 60
    assert len(json.dumps(node.status, separators=(",", ":"))) < 64 * 1024
    assert node.status["masks"]["alongCount"] > 0


async def test_a_full_machine_with_common_keys_is_small(tmp_path):
    adapters = [{"id": number, "type": "CEX8C", "keys": "payments"} for number in range(60)]
    node = Cluster(tmp_path, adapters=adapters, usageDomains="0-84", maxDomain=84)
    node.wish(item(adapters="0-9", domains="0-84"))
    await node.agent.turn()
    assert len(node.status["keySets"]) == 1
    assert "keys" not in node.status["summary"]
    assert len(json.dumps(node.status)) < 16 * 1024
    sampled = [use.get("sampled") for adapter in node.status["adapters"] for use in adapter["keys"]]
    assert sampled == ["2026-11-21T10:00:00Z"] * 10 + [None] * 50


async def test_a_guest_that_comes_or_goes_is_noticed_without_an_event(node):
    node.wish(item())
    await node.agent.turn()
    assert not await use_differs(node.witness, node.agent.last)
    node.control.start_guest("vm", A)
    assert await use_differs(node.witness, node.agent.last)
    await node.agent.turn()
    assert node.status["mdevs"][0]["inUse"] is True
    assert not await use_differs(node.witness, node.agent.last)
    node.control.stop_guest("vm")
    assert await use_differs(node.witness, node.agent.last)
    node.witness.run = gone
    assert await use_differs(node.witness, node.agent.last)


@pytest.mark.parametrize("profile", ["K7.1", "K6.1"])
async def test_what_others_do_to_devices_is_noticed_without_an_event(tmp_path, profile):
    node = Cluster(tmp_path, profile=profile)
    node.wish(item(domains="4,6"))

    async def noticed():
        found = await config_differs(node.witness, node.agent.last)
        await node.agent.turn()
        assert not await config_differs(node.witness, node.agent.last)
        return found

    await node.agent.turn()
    assert not await noticed()
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    assert await noticed()
    node.foreign()
    assert await noticed()
    node.kernel.write(f"{paths.mdev(A)}/remove", "1")
    assert await noticed()
    node.witness.run = gone
    assert await config_differs(node.witness, node.agent.last)


async def test_a_foreign_change_is_said_and_repaired_within_a_second_of_a_loop_at_rest(node):
    """By the loop's own clock: what counts is what it waits for."""
    node.wish(item(domains="4,6"))
    stop, said = asyncio.Event(), asyncio.Event()
    say, node.outlet.say = node.outlet.say, lambda items: (say(items), said.set())
    tasks = [
        asyncio.ensure_future(node.agent.run(stop)),
        asyncio.ensure_future(
            keep_vigil(node.witness, lambda: node.agent.last, lambda: node.triggers.pull("vigil"))
        ),
    ]
    async with asyncio.timeout(10):
        while not node.outlet.published:
            await asyncio.sleep(0.01)
        said.clear()
        node.reasons()
        began = asyncio.get_running_loop().time()
        node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
        await said.wait()
        took = asyncio.get_running_loop().time() - began
    assert node.reasons()[0] == "ForeignChange"
    assert took < 1
    stop.set()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_foreign_change_in_the_midst_of_a_pass_is_said_before_it_is_repaired(node):
    node.wish(item())
    await node.agent.turn()
    node.reasons()
    order = []

    def meddle(op):
        order.append((op.path.rpartition("/")[2], node.reasons()))
        if op.path.endswith("create"):
            node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")

    node.witness.before = meddle
    node.wish(item(), item(B, "6", "6"), generation=2)
    await node.agent.turn()
    assert [file for file, _ in order] == ["aqmask", "create", "ap_config", "ap_config"]
    assert "ForeignChange" in order[-1][1]


async def test_a_switch_that_is_busy_is_tried_again_soon(tmp_path):
    """A migration ends without an event; a minute is too long to leave ``migratable`` set."""
    node = Cluster(tmp_path, profile="MIGv1")
    node.wish(item(migratable=True))
    assert await node.agent.turn() is True
    assert node.status["mdevs"][0]["migratable"] is True
    run = node.witness.run

    async def busy(ops, *, deadline):
        if isinstance(ops[0], Write) and ops[0].path.endswith("/migratable"):
            return [Failed(errno.EBUSY)]
        return await run(ops, deadline=deadline)

    node.witness.run = busy
    node.wish(item(), generation=2)
    assert await node.agent.turn() is False, "soon"
    assert node.status["mdevs"][0]["reason"] == "MigratableBusy"
    node.witness.run = run
    assert await node.agent.turn() is True
    assert node.status["mdevs"][0]["migratable"] is False


async def test_what_the_kernel_changes_in_a_move_is_no_foreign_change(node):
    node.wish(item(domains="4,6"))
    await node.agent.turn()
    node.reasons()
    node.wish(item(domains="4,6", frozen=True), generation=2)
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    await node.agent.turn()
    assert "ChangedInMove" in node.reasons()
    assert node.config(A) == matrix("5", "6")


async def test_a_change_made_while_the_agent_was_down_is_said_before_it_is_repaired(node):
    node.wish(item())
    await node.agent.turn()
    node.begin()
    node.reasons()
    node.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    order = []
    node.witness.before = lambda op: order.append(node.reasons())
    node.wish(item())
    await node.agent.turn()
    assert "ForeignChange" in order[0]


class Api:
    """An API server that is away for a while."""

    def __init__(self):
        self.away, self.applied, self.asked = True, [], asyncio.Event()

    async def apply(self, resource, document, *, subresource=""):
        self.asked.set()
        if self.away:
            raise ApiError(0, "Unreachable", "no")
        self.applied.append((document["status"], subresource))


async def test_a_status_is_published_when_the_api_server_is_back_and_only_the_newest(monkeypatch):
    from vfio_ap_agent.cluster import publish

    api = Api()
    publisher = Publisher(api, "node1", lambda: None)
    monkeypatch.setattr(publish, "_RETRY", (0.0, 0.0))
    task = asyncio.ensure_future(publisher.run())
    publisher.offer({"hostQueues": 1, "conditions": []})
    await api.asked.wait()
    publisher.offer({"hostQueues": 2, "conditions": []})
    api.away = False
    while not api.applied:
        await asyncio.sleep(0)
    publisher.offer({"hostQueues": 2, "conditions": []})
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    assert api.applied == [({"hostQueues": 2, "conditions": []}, "status")]


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.splitlines()[0].removeprefix("HTTP/1.1 "), body


async def test_health_is_asked_over_http():
    now = [0.0]
    health = Health(60, clock=lambda: now[0])
    server = await serve(health, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rest = b" HTTP/1.1\r\nHost: x\r\n\r\n"
    status, body = await ask(port, b"GET /healthz" + rest)
    assert (status, json.loads(body)["watching"]) == ("200 OK", False)
    assert (await ask(port, b"GET /readyz?verbose" + rest))[0] == "503 Service Unavailable"
    health.turn(read=True)
    health.watching = True
    assert (await ask(port, b"GET /readyz" + rest))[0] == "200 OK"
    assert await ask(port, b"HEAD /readyz" + rest) == ("200 OK", "")
    assert await ask(port, b"GET /" + rest) == ("404 Not Found", "")
    assert (await ask(port, b"POST /healthz" + rest))[0] == "405 Method Not Allowed"
    assert await ask(port, b"nonsense\r\n\r\n") == ("405 Method Not Allowed", "")
    now[0] = 5000.0
    assert (await ask(port, b"GET /healthz" + rest))[0] == "503 Service Unavailable"
    taken = await serve(health, "127.0.0.1", port)
    assert taken is None
    server.close()


async def test_a_client_that_sends_without_end_is_dropped():
    server = await serve(Health(60), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    server.close()


def test_health_tells_what_is_wrong():
    now = [0.0]
    health = Health(60, clock=lambda: now[0])
    assert (health.alive, health.current) == (True, False)
    health.turn(read=True)
    health.watching = True
    assert health.current
    now[0] = 200.0
    health.turn(read=False)
    assert (health.alive, health.current) == (True, False)
    assert health.document() == {"lastReadBackSeconds": 200.0, "lastPassSeconds": 0.0, "watching": True}
    now[0] = 10_000.0
    assert not health.alive


LINES = (
    ("Can not reserve queue 05.0006 for host driver: in use by mdev", "MaskBusy", "05.0006", A),
    (f"Userspace may not assign queue 05.0006 to mdev: already assigned to {B}", "QueueTaken", "05.0006", B),
    ("Relaying device request to user (#0)", "RemovalWaits", "", A),
    ('Device is currently in use, task "sh" (77) blocked until device is released', "RemovalWaits", "", "sh (77)"),
)


@pytest.mark.parametrize(("line", "reason", "subject", "names"), LINES)
def test_kernel_log_lines_become_refusals(line, reason, subject, names):
    refusal = meaning(f"vfio_ap_mdev {A}: {line}")
    assert (refusal.reason, refusal.subject) == (reason, subject)
    assert names in refusal.message
    assert refusal.remedy


def test_other_kernel_log_lines_do_not():
    assert meaning("vfio_ap matrix: MDEV: Registered") is None
    assert meaning("usb 1-1: new device") is None


async def test_many_triggers_make_one_pass():
    triggers = Triggers(1000)
    for _ in range(100):
        triggers.pull("uevent")
    triggers.pull("spec")
    assert await triggers.wait() == {"uevent", "spec"}
