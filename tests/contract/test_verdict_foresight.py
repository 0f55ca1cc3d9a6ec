"""What the verdict says before anything is made comes true once the agent has made it and the guest has moved.

Here the agent itself prepares both hosts, masks and device, as it does in a cluster: the first question is asked
of a target without a device, the second when it has one, and then the modelled kernel moves the guest. Pairs are
those of ``movepairs``, as far as they differ in what an agent finds and not in what it does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

from vfio_ap.fleet.shape import shape_for
from vfio_ap.fleet.verdict import Mode, MovePolicy, Reason, verdict
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap.host.wish import WantedMdev, Wish
from vfio_ap.matrix import Matrix
from vfio_ap_agent import status
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.keys import picture
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
from vfio_ap_kube.snapshot.nodes import node_view
from vfio_ap_sim.kernel import Control, InProcessHost
from vfio_ap_sim.kernel.migration import migrate

from .conftest import MATRIX, TYPE, A, B
from .movepairs import Pair, Side, draw

PAIRS = 200
HARDWARE = {
    "type", "mode", "facility", "class", "nameless bits", "dead adapter", "no adapter", "no domain",
    "no control domain", "bind state", "one machine", "over-provisioned", "no migration", "other version",
    "low maximum", "reserved", "other device",
}  # fmt: skip
FORESEEN: Counter[str] = Counter()
RULES = MovePolicy((Mode.LIVE,), master_keys="Ignore")
"""Keys that nobody has loaded would hide what else is foreseen."""


class Host:
    """One host and its agent."""

    def __init__(self, name: str, side: Side, folder: Path) -> None:
        self.name, self.side = name, side
        self.control: Control = side.boot()
        folder.mkdir(exist_ok=True)
        state = StateDir(folder / name)
        self.samples = Samples(state, clock=lambda: "2026-11-21T10:00:00Z")
        self.agent = Applier(
            InProcessHost(self.control.kernel), OursFile(state), self.samples, folder / f"{name}.lock"
        )

    async def look(self, wanted: Matrix | None) -> NodeView:
        """Have the agent bring the host to its wish, and return what its APNode says then."""
        kept = self.side.reserved
        wish = Wish((WantedMdev(A, "pay", wanted),) if wanted else (), (kept,) if kept else ())
        outcome = await self.agent.apply(wish)
        await self.samples.take(InProcessHost(self.control.kernel), outcome.view)
        keys = picture(outcome.view, self.samples, ())
        spec = {"hostReserved": [{"adapters": str(kept.adapters), "domains": str(kept.domains)}] if kept else []}
        built = status.build(outcome.view, outcome.plan, outcome.reports, self.samples, keys)
        document = {"metadata": {"name": self.name, "generation": 1}, "spec": spec, "status": built}
        return node_view(document, labels={}, ready=True, allocatable=frozenset())

    def migratable(self) -> None:
        """Set the attribute of the first version, where the device has it."""
        if "migratable" in self.control.kernel.list(f"{MATRIX}/{A}"):
            self.control.kernel.write(f"{MATRIX}/{A}/migratable", "1")

    def meddle(self) -> None:
        """Make the device that somebody else has on it."""
        if self.side.other is not None:
            write = self.control.kernel.write
            for adapter in self.side.other.adapters:
                write("/sys/bus/ap/apmask", f"-{adapter}")
            write(f"{TYPE}/create", B)
            with suppress(OSError):
                write(f"{MATRIX}/{B}/ap_config", self.side.other.ap_config())


async def play(pair: Pair, folder: Path) -> str:
    """Ask, prepare, ask again, move; return what came of it. Raises AssertionError where a yes was not kept."""
    matrix = MatrixView("pay", A, pair.wanted)
    source, target = Host("a", pair.source, folder), Host("b", pair.target, folder)
    target.meddle()
    await source.look(None)
    bare = await target.look(None)
    await source.look(pair.wanted)
    if A not in source.control.kernel.mdevs.by_uuid:
        return "no device to begin with"
    source.control.start_guest("vm", A)
    home = await source.look(pair.wanted)
    before = verdict(matrix, home, bare, RULES, prepared=False)
    there = await target.look(shape_for(matrix, home, bare) or pair.wanted)
    after = verdict(matrix, home, there, RULES)
    if before.mode is None:
        assert after.mode is None, f"{before.refusals}, and then yes"
        return "a no that stays"
    if after.mode is None:
        reasons = {Reason[refusal.reason] for refusal in after.refusals} - {Reason.ModeNotAllowed}
        assert reasons <= {Reason.MigrationVersionsDiffer, Reason.KernelCannotMigrate}, after.refusals
        return "a no that only the device shows"
    for host in (source, target):
        host.migratable()
    outcome = migrate(source.control, target.control, A)
    assert outcome.ok, outcome
    return "a yes that comes true"


def summary() -> list[str]:
    """Return how often each came about."""
    counts = ", ".join(f"{what} {number}" for what, number in FORESEEN.most_common())
    return [f"foresight: {FORESEEN.total()} moves prepared by the agent: {counts}"] if FORESEEN else []


def test_what_is_foreseen_comes_true(tmp_path: Path) -> None:
    seeds = (seed for seed in range(100_000) if set(draw(seed).changes) <= HARDWARE)
    for _ in range(PAIRS):
        seed = next(seeds)
        try:
            FORESEEN[asyncio.run(play(draw(seed), tmp_path / str(seed)))] += 1
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {draw(seed).changes}: {error}") from None
    assert min(FORESEEN["a yes that comes true"], FORESEEN["a no that stays"]) > PAIRS // 10, FORESEEN
