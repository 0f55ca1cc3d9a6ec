"""Whatever machines, wishes, guests and other people do: the host converges or says why, and nobody is hurt."""

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfio_ap.host.masks import HostMasks
from vfio_ap.host.ops import Write
from vfio_ap.host.view import HOST_DRIVER
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_agent import paths

from .support import FOREIGN, A, B, Killed, Node, WantedMdev, wish

ADAPTERS, DOMAINS = (4, 5), (4, 6)
MDEV_FILES = ("create", "remove", "assign_adapter", "assign_domain", "unassign_adapter", "unassign_domain")
BINDINGS = ("bind", "unbind")
adapters = st.frozensets(st.sampled_from((*ADAPTERS, 9)), min_size=1, max_size=2).map(IdSet.from_ids)
domains = st.frozensets(st.sampled_from((*DOMAINS, 17)), min_size=1, max_size=2).map(IdSet.from_ids)
matrices = st.builds(Matrix, adapters, domains)
frozen = st.sampled_from((False, False, False, True))
wishes = st.dictionaries(
    st.sampled_from((A, A, B, FOREIGN)), st.tuples(matrices, st.booleans(), frozen), max_size=3
)
reservations = st.lists(st.builds(Matrix, adapters, domains), max_size=1)

ids = st.sampled_from((*ADAPTERS, *DOMAINS, 9, 17))
uuids = st.sampled_from((A, A, B, FOREIGN))
guests = st.tuples(st.just("guest"), uuids, st.sampled_from(("start", "start", "stop")))
new_wishes = st.tuples(st.just("wish"), wishes, reservations)
meddling = st.one_of(
    st.tuples(st.just("mask"), st.sampled_from(("apmask", "aqmask")), st.sampled_from("+-"), ids),
    st.tuples(st.just("mdev"), uuids, st.sampled_from(MDEV_FILES), ids),
    st.tuples(st.just("foreign"), matrices),
    st.tuples(st.just("queue"), st.sampled_from(ADAPTERS), st.sampled_from(DOMAINS), st.sampled_from(BINDINGS)),
    st.tuples(st.just("restart")),
)
touching = st.tuples(st.just("touch"), uuids, st.sampled_from(MDEV_FILES[2:]), ids)
"""Somebody edits a device that a guest has."""
growing = st.tuples(st.just("grow"), matrices, st.sampled_from(ADAPTERS), st.sampled_from(DOMAINS))
"""The first device is wished larger while a guest has it and a queue has lost its driver."""
faults = st.tuples(
    st.just("fault"), st.integers(0, 7), st.sampled_from(("kill", "kill", "hang", "EIO", "EBUSY", "EINVAL"))
)
"""One of the agent's next writes ends it, hangs, or is refused by the kernel."""
machines = st.tuples(st.just("machine"), st.sampled_from(ADAPTERS), st.sampled_from(("away", "back", "off", "on")))
"""The HMC takes an adapter away or gives it back, or deconfigures it."""
interference = st.one_of(guests, new_wishes, meddling, touching, growing, faults, machines)
HISTORIES = {"count": 0}


class Referee:
    """Judges every write of the agent by what the kernel did."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.reserved: list[Matrix] = []
        self.wanted: dict[str, Matrix] = {}
        self.frozen: dict[str, Matrix] = {}
        self.told: dict[str, set[Apqn]] = {}
        """Queues that each device was once told to have and then not."""
        node.witness.before, node.witness.after = self.before, self.after

    def masks(self) -> HostMasks:
        read = self.node.kernel.read
        return HostMasks(*(IdSet.from_mask(read(f"{paths.BUS}/{name}")) for name in ("apmask", "aqmask")))

    def hosts(self) -> set[Apqn]:
        """Return the queues that the host's driver has."""
        return {
            Apqn(card.id, queue.domain)
            for card in self.node.kernel.bus.cards.values()
            for queue in card.domains.values()
            if queue.driver == HOST_DRIVER
        }

    def guests(self) -> dict[str, set[Apqn]]:
        """Return what each guest's CRYCB has, by the UUID of its device."""
        found = {}
        for name, guest in self.node.kernel.guests.items():
            if guest.has_device:
                found[name] = {Apqn(a, d) for a in IdSet(guest.adapters) for d in IdSet(guest.domains)}
        return found

    def foreign(self) -> object:
        mdevs = self.node.kernel.mdevs.by_uuid
        ours = self.node.applier.ours.mdevs
        return {uuid: mdev.assigned.text() for uuid, mdev in mdevs.items() if uuid not in ours}

    def held_still(self) -> object:
        """Return frozen devices as they are, and who has each of their queues."""
        mdevs = self.node.kernel.mdevs.by_uuid
        held = {uuid: mdevs[uuid].assigned.text() if uuid in mdevs else "" for uuid in self.frozen}
        queues = {q for matrix in self.frozen.values() for q in matrix}
        for mdev in (mdevs[uuid].assigned for uuid in self.frozen if uuid in mdevs):
            queues |= set(Matrix(IdSet(mdev.adapters), IdSet(mdev.domains)))
        cards = self.node.kernel.bus.cards
        return held, {
            q: cards[q.adapter].domains[q.domain].driver
            for q in queues
            if q.adapter in cards and q.domain in cards[q.adapter].domains
        }

    def tell(self, new: dict[str, Matrix]) -> None:
        for uuid, old in self.wanted.items():
            self.told.setdefault(uuid, set()).update(set(old) - set(new.get(uuid, Matrix())))
        self.wanted = new

    def before(self, op: Write) -> None:
        self.were = self.masks(), self.guests(), self.foreign(), self.hosts()
        self.still = self.held_still()
        if op.path.endswith("/remove"):
            mdev = self.node.kernel.mdevs.by_uuid[op.path.split("/")[-2]]
            assert mdev.guest is None, "removed a device that a guest has"
            assert mdev.uuid not in self.wanted

    def after(self, op: Write) -> None:
        masks, guests, foreign, hosts = self.were
        left = hosts - self.hosts()
        assert self.held_still() == self.still, f"{op} moved what a move holds still"
        for queue in (queue for matrix in self.reserved for queue in matrix):
            assert not (masks.reserves(queue) and not self.masks().reserves(queue)), f"{queue} left the host"
            assert queue not in left, f"{queue} left the host by {op}"
        for uuid, had in guests.items():
            lost = had - self.guests().get(uuid, set())
            assert lost <= self.told.get(uuid, set()), f"{uuid} lost {lost} by {op}"
            assert not lost & set(self.wanted.get(uuid, Matrix())), f"{uuid} lost what it is wanted to have"
        for uuid, text in foreign.items():
            adopted = uuid in self.node.applier.ours.mdevs
            assert adopted or self.foreign().get(uuid) == text, f"foreign {uuid} changed by {op}"


def meddle(node: Node, referee: Referee, action: tuple) -> None:
    """Do what somebody else does; the kernel may refuse it."""
    kind, *rest = action
    kernel = node.kernel
    try:
        if kind == "mask":
            kernel.write(f"{paths.BUS}/{rest[0]}", f"{rest[1]}{rest[2]}")
        elif kind == "mdev" and rest[1] == "create":
            kernel.write(paths.CREATE, rest[0])
        elif kind == "mdev" and rest[1] == "remove":
            if kernel.mdevs.by_uuid[rest[0]].guest is None:
                kernel.write(f"{paths.mdev(rest[0])}/remove", "1")
        elif kind == "mdev":
            kernel.write(f"{paths.mdev(rest[0])}/{rest[1]}", str(rest[2]))
        elif kind == "queue":
            for driver in ("vfio_ap", "cex4queue"):
                kernel.write(f"{paths.DRIVERS}/{driver}/{rest[2]}", str(Apqn(rest[0], rest[1])))
        elif kind == "foreign":
            for adapter in rest[0].adapters:
                kernel.write(f"{paths.BUS}/apmask", f"-{adapter}")
            node.foreign(adapters=str(rest[0].adapters), domains=str(rest[0].domains))
        elif kind == "touch":
            meddle(node, referee, ("guest", rest[0], "start"))
            if rest[1].startswith("assign"):
                kernel.write(f"{paths.BUS}/{'apmask' if 'adapter' in rest[1] else 'aqmask'}", f"-{rest[2]}")
            kernel.write(f"{paths.mdev(rest[0])}/{rest[1]}", str(rest[2]))
        elif kind == "grow":
            meddle(node, referee, ("guest", A, "start"))
            meddle(node, referee, ("queue", rest[1], rest[2], "unbind"))
        elif kind == "guest" and rest[1] == "start":
            if rest[0] not in kernel.guests and kernel.mdevs.by_uuid[rest[0]].guest is None:
                node.control.start_guest(rest[0], rest[0])
        elif kind == "guest":
            node.control.stop_guest(rest[0])
        elif kind == "fault":
            node.witness.faults[rest[0]] = rest[1]
        elif kind == "machine":
            change_machine(node, *rest)
        elif kind == "restart":
            node.start_agent()
    except (OSError, KeyError, ValueError):
        return


def change_machine(node: Node, adapter: int, how: str) -> None:
    control, there = node.control, adapter in node.kernel.hardware.adapters
    if how == "back" and not there:
        control.plug(adapter, "CEX8C")
    elif how == "away" and there:
        control.unplug(adapter)
    elif how in ("off", "on") and there:
        (control.configure if how == "on" else control.deconfigure)(adapter)


@settings(
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    profile=st.sampled_from((("K7.1", "masks"), ("K7.1", "override"), ("K6.12", "masks"), ("K6.1", "masks"))),
    first=st.tuples(wishes, reservations),
    story=st.lists(st.tuples(interference, st.sampled_from((True, True, False))), max_size=12),
)
def test_converges_or_says_why_and_hurts_nobody(profile, first, story):
    with tempfile.TemporaryDirectory() as folder:
        cards = [{"id": number, "type": "CEX8C"} for number in ADAPTERS]
        node = Node(Path(folder), *profile, adapters=cards, usageDomains=",".join(map(str, DOMAINS)))
        referee = Referee(node)
        HISTORIES["count"] += 1
        asyncio.run(_live(node, referee, first, story))


def grown(mdev: WantedMdev, more: Matrix) -> WantedMdev:
    larger = Matrix(mdev.matrix.adapters | more.adapters, mdev.matrix.domains | more.domains)
    return replace(mdev, matrix=larger)


async def _live(node: Node, referee: Referee, first: tuple, story: list) -> None:
    now = wish()
    story = [(("wish", *first), True), *story]
    for action, look in story:
        meddle(node, referee, action)
        if action[0] == "wish":
            mdevs = [WantedMdev(uuid, uuid, *what) for uuid, what in action[1].items()]
            now = wish(*mdevs, reserved=action[2])
        elif action[0] == "grow":
            now = replace(
                now, mdevs=tuple(grown(mdev, action[1]) if mdev.uuid == A else mdev for mdev in now.mdevs)
            )
        referee.tell({mdev.uuid: mdev.matrix for mdev in now.mdevs})
        referee.reserved = list(now.reserved)
        referee.frozen = {mdev.uuid: mdev.matrix for mdev in now.mdevs if mdev.frozen}
        if look:
            try:
                await node.applier.apply(now)
            except Killed:
                node.start_agent()
            except TimeoutError:
                pass
    node.witness.faults.clear()
    referee.frozen = {}
    now = replace(now, mdevs=tuple(replace(mdev, frozen=False) for mdev in now.mdevs))
    outcome = await node.applier.apply(now)
    for report in outcome.reports:
        assert report.state in ("Ready", "Foreign") or report.note is not None
        if report.uuid in referee.wanted:
            assert report.state != "Pending", f"{report} after {node.witness.writes}"
    for uuid, target in referee.wanted.items():
        state = next(report.state for report in outcome.reports if report.uuid == uuid)
        if state in ("Ready", "Incomplete"):
            mdev = node.kernel.mdevs.by_uuid[uuid]
            assert (mdev.assigned.adapters, mdev.assigned.domains) == (target.adapters.bits, target.domains.bits)
    before = len(node.witness.writes)
    again = await node.applier.apply(now)
    assert node.witness.writes[before:] == [], "writes at rest"
    assert again.reports == outcome.reports
    assert node.kernel.hazards == []
