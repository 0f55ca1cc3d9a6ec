"""A modelled host with an agent on it, and a witness of everything that the agent writes."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

from vfio_ap.host.handover import Preference
from vfio_ap.host.ops import Failed, Op, Result, Write
from vfio_ap.host.wish import WantedMdev, Wish
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_agent import paths
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
from vfio_ap_sim.kernel import Control, InProcessHost, boot, machine_from

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
C = "cccccccc-0000-4000-8000-000000000003"
FOREIGN = "ffffffff-0000-4000-8000-00000000000f"


def matrix(adapters: str, domains: str, control: str = "") -> Matrix:
    return Matrix(IdSet.parse(adapters), IdSet.parse(domains), IdSet.parse(control))


def wanted(uuid: str, adapters: str, domains: str, control: str = "", *, adopt: bool = False) -> WantedMdev:
    return WantedMdev(uuid, f"matrix-{uuid[0]}", matrix(adapters, domains, control), adopt)


def wish(*mdevs: WantedMdev, reserved: Sequence[Matrix] = ()) -> Wish:
    return Wish(tuple(mdevs), tuple(reserved))


class Killed(Exception):
    """The agent's process ended here."""


class Witness:
    """A host that notes every write and can end the agent at any of them."""

    def __init__(self, control: Control) -> None:
        self.host = InProcessHost(control.kernel)
        self.writes: list[str] = []
        self.kill_before: int | None = None
        self.kill_after: int | None = None
        self.faults: dict[int, str] = {}
        """By number of the write from now: ``kill``, ``hang``, or the name of an errno."""
        self.before: Callable[[Write], None] = lambda op: None
        self.after: Callable[[Write], None] = lambda op: None

    async def run(self, ops: Sequence[Op], *, deadline: float) -> list[Result]:
        for op in ops:
            if isinstance(op, Write):
                if self.kill_before == len(self.writes):
                    raise Killed
                if (fault := self._fault()) is not None:
                    return [Failed(fault)]
                self.writes.append(f"{op.path.rpartition('/')[2]} {op.data.decode().strip()}")
                self.before(op)
        results = await self.host.run(ops, deadline=deadline)
        for op in ops:
            if isinstance(op, Write):
                self.after(op)
                if self.kill_after == len(self.writes):
                    raise Killed
        return results

    def _fault(self) -> int | None:
        """Return the errno that the next write gets, if any; end the process or time out where that is due."""
        due = self.faults.pop(0, None)
        self.faults = {number - 1: kind for number, kind in self.faults.items()}
        if due == "kill":
            raise Killed
        if due == "hang":
            raise TimeoutError
        return None if due is None else getattr(errno, due)


class Node:
    """A modelled machine, by default of three CCA adapters 4-6 and domains 4,6,171, and the agent's state."""

    def __init__(
        self, folder: Path, profile: str = "K7.1", prefer: Preference = "auto", **machine: object
    ) -> None:
        self.prefer = prefer
        document = {"adapters": [{"id": n, "type": "CEX8C"} for n in (4, 5, 6)], "usageDomains": "4,6,0xab"}
        self.control = boot(machine_from(document | machine), profile)
        self.kernel = self.control.kernel
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.witness = Witness(self.control)
        self.start_agent()

    def start_agent(self) -> None:
        """Begin anew with what is on the disk, as after a crash."""
        state = StateDir(self.folder / "state")
        self.state = state
        self.samples = Samples(state, clock=lambda: "2026-11-21T10:00:00Z")
        self.applier = Applier(self.witness, OursFile(state), self.samples, self.folder / "lock", self.prefer)

    async def apply(self, *mdevs: WantedMdev, reserved: Sequence[Matrix] = ()):
        return await self.applier.apply(wish(*mdevs, reserved=reserved))

    def config(self, uuid: str) -> Matrix:
        """Return what the kernel says that a device holds."""
        return Matrix.from_ap_config(self.kernel.read(f"{paths.mdev(uuid)}/ap_config"))

    def foreign(self, uuid: str = FOREIGN, *, adapters: str = "", domains: str = "") -> None:
        """Make a device as an administrator would."""
        self.kernel.write(paths.CREATE, uuid)
        for what, ids in (("adapter", adapters), ("domain", domains)):
            for number in IdSet.parse(ids):
                self.kernel.write(f"{paths.mdev(uuid)}/assign_{what}", str(number))

    def masks(self) -> tuple[str, str]:
        return tuple(
            str(IdSet.every() - IdSet.from_mask(self.kernel.read(f"{paths.BUS}/{name}")))
            for name in ("apmask", "aqmask")
        )


def by_uuid(outcome):
    return {report.uuid: report for report in outcome.reports}
