"""What the agent costs: writes and time against mdevctl on the same mount, reading and planning, memory.

Numbers are printed and never judged: medians of some rounds, and ratios of two things measured in the same run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vfio_ap.host.ops import Op, Result, Write
from vfio_ap.host.plan import plan_host
from vfio_ap.host.view import HostView
from vfio_ap.host.wish import Ours, WantedMdev, Wish
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.host.client import LanedHost, open_host
from vfio_ap_agent.inventory import read_host
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
from vfio_ap_sim.kernel import InProcessHost, boot, machine_from
from vfio_ap_sim.serve import Simulator

ROUNDS = 3
DEVICES = (1, 10, 50)
SIZES = ((16, 85), (60, 85), (256, 256))
TYPE = "vfio_ap-passthrough"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
say = sys.stdout.write


def uuid(number: int) -> str:
    """Return a UUID by number."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def wish_of(count: int) -> Wish:
    """Return devices of one queue each."""
    return Wish(
        tuple(WantedMdev(uuid(n), f"m{n}", Matrix(IdSet.of(n // 10), IdSet.of(n % 10))) for n in range(count))
    )


class Counted:
    """A host that counts writes and their time."""

    def __init__(self, host: LanedHost) -> None:
        self._host = host
        self.writes, self.seconds = 0, 0.0

    async def run(self, ops: list[Op], *, deadline: float) -> list[Result]:
        """Carry out and count."""
        writes, began = sum(isinstance(op, Write) for op in ops), time.perf_counter()
        results = await self._host.run(ops, deadline=deadline)
        if writes:
            self.writes += writes
            self.seconds += time.perf_counter() - began
        return results


# -- in the namespace of a mount


async def by_agent(count: int, state: Path) -> dict[str, float]:
    """Make devices and look again; return seconds and writes.

    In a namespace nobody's idleness can be proven, so that the agent would remove nothing.
    """
    host = open_host("")
    try:
        counted = Counted(host)
        directory = StateDir(state)
        applier = Applier(counted, OursFile(directory), Samples(directory), None)  # type: ignore[arg-type]
        found: dict[str, float] = {}
        for name in ("make", "rest"):
            counted.writes, counted.seconds, began = 0, 0.0, time.perf_counter()
            outcome = await applier.apply(wish_of(count))
            found |= {
                name: time.perf_counter() - began,
                f"{name} writes": counted.writes,
                f"{name} writing": counted.seconds,
            }
            bad = [str(report) for report in outcome.reports if report.state != "Ready"]
            if bad or outcome.problem:
                raise SystemExit(f"the agent could not {name}: {outcome.problem} {bad[:1]}")
        return found
    finally:
        await host.close()


def by_mdevctl(count: int) -> dict[str, float]:
    """Start the same devices by the real mdevctl, one call each, from JSON files."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for mdev in wish_of(count).mdevs:
            attrs = [{"assign_adapter": str(a)} for a in mdev.matrix.adapters]
            attrs += [{"assign_domain": str(d)} for d in mdev.matrix.domains]
            path = Path(folder, mdev.uuid)
            path.write_text(json.dumps({"mdev_type": TYPE, "start": "manual", "attrs": attrs}))
            run("mdevctl", "start", "--uuid", mdev.uuid, "--parent", "matrix", "--jsonfile", str(path))
    writes = sum(1 + len(m.matrix.adapters) + len(m.matrix.domains) for m in wish_of(count).mdevs)
    return {"make": time.perf_counter() - began, "make writes": writes}


def stop(count: int) -> None:
    """Remove the devices again."""
    for mdev in wish_of(count).mdevs:
        Path(f"/sys/devices/vfio_ap/matrix/{mdev.uuid}/remove").write_text("1")


def run(*command: str) -> None:
    """Run a command. Raises SystemExit with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def in_the_mount() -> None:
    """Compare on the machine that is mounted on /sys; its masks are open, since mdevctl edits none."""
    Path("/sys/bus/ap/apmask").write_text("-0-63")
    results = []
    for count in DEVICES:
        agent, mdevctl = [], []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as state:
                agent.append(asyncio.run(by_agent(count, Path(state))))
            stop(count)
            mdevctl.append(by_mdevctl(count))
            stop(count)
        results.append({"count": count, "agent": medians(agent), "mdevctl": medians(mdevctl)})
    say(json.dumps(results))


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median by name."""
    return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}


MOUNTED = """
set -eu
mkdir sys
"$PYTHON" -m vfio_ap_sim.cli mount --config machine.yaml --profile K7.1 --control control sys > ready &
trap 'kill $!' EXIT
read -r line < ready
mount --bind sys /sys
"$PYTHON" "$BENCH" in-the-mount
"""


def side_by_side() -> None:
    """Print the comparison, or what it lacks."""
    missing = [
        text
        for text, here in (
            ("mdevctl", shutil.which("mdevctl") is not None),
            ("/dev/fuse", os.access("/dev/fuse", os.R_OK | os.W_OK)),
            (
                "user and mount namespaces",
                not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode,
            ),
        )
        if not here
    ]
    if missing:
        say(f"devices: not measured, for want of {', '.join(missing)}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        adapters = "\n".join(f"  - {{id: {n}, type: CEX8C}}" for n in range(5))
        Path(folder, "machine.yaml").write_text(f"usageDomains: 0-9\nadapters:\n{adapters}\n")
        os.mkfifo(Path(folder, "ready"))
        environment = os.environ | {"PYTHON": sys.executable, "BENCH": str(Path(__file__).resolve())}
        done = subprocess.run(
            [*NAMESPACE, "bash", "-c", MOUNTED], cwd=folder, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        say(f"devices: not measured: {done.stderr.strip()[-300:]}\n")
        return
    say(f"devices of one queue on a machine of 5 x 10, all on one mount of the model, medians of {ROUNDS};\n")
    say("the agent reads the whole machine before and after, mdevctl reads nothing:\n")
    for row in json.loads(done.stdout[done.stdout.index("[") :]):
        agent, mdevctl, count = row["agent"], row["mdevctl"], row["count"]
        whole, writing = agent["make"] / mdevctl["make"], agent["make writing"] / mdevctl["make"]
        say(
            f"  {count:>3}: make {agent['make']:6.2f} s, {agent['make writes']:.0f} writes"
            f" in {agent['make writing']:.2f} s"
            f"   mdevctl {mdevctl['make']:6.2f} s, {mdevctl['make writes']:.0f} writes"
            f"   ratio {whole:.2f}, of the writes {writing:.2f};"
            f"   at rest {agent['rest']:.2f} s, {agent['rest writes']:.0f} writes\n"
        )


# -- reading, planning, memory


def modelled(adapters: int, domains: int) -> InProcessHost:
    """Return a host of that size, with half of its adapters released."""
    document = {
        "adapters": [{"id": n, "type": "CEX8C"} for n in range(adapters)],
        "usageDomains": f"0-{domains - 1}",
        "maxDomain": max(domains - 1, 84),
    }
    kernel = boot(machine_from(document), "K7.1").kernel
    kernel.write("/sys/bus/ap/apmask", f"-0-{adapters // 2 - 1}")
    return InProcessHost(kernel)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of some rounds by the clock and of the processor's time, in seconds."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return statistics.median(clock for clock, _ in took), statistics.median(cpu for _, cpu in took)


def reading_and_planning() -> None:
    """Print the time of a reading and of a plan for 50 devices, by size of the machine."""
    say("\nreading (the modelled kernel's answers included, which are most of it) and planning 50 devices")
    say(f" (median of {ROUNDS}), by the clock and of the processor's time:\n")
    for adapters, domains in SIZES:
        host = modelled(adapters, domains)
        view, files, reading, worked = asyncio.run(read(host))
        rows = range(50)
        wish = Wish(
            tuple(
                WantedMdev(
                    uuid(n),
                    f"m{n}",
                    Matrix(
                        IdSet.of(n * adapters // 50 % adapters),
                        IdSet.of(*(d for d in range(domains) if d % 50 == n)),
                    ),
                )
                for n in rows
            )
        )
        planning, thought = timed(lambda view=view, wish=wish: plan_host(view, wish, Ours()))  # type: ignore[misc]
        say(f"  {adapters:>3} x {domains:<3}: read {files:>6} files in {reading:6.2f} s, {worked:5.2f} s of work")
        say(f"   plan {planning * 1000:7.1f} ms, {thought * 1000:5.1f} ms of work\n")


class Read:
    """A host that counts what is read."""

    def __init__(self, host: InProcessHost) -> None:
        self._host, self.count = host, 0

    async def run(self, ops: list[Op], *, deadline: float) -> list[Result]:
        """Carry out and count."""
        self.count += len(ops)
        return await self._host.run(ops, deadline=deadline)


async def read(host: InProcessHost) -> tuple[HostView, int, float, float]:
    """Return the host, how many files were read, and the seconds by the clock and the processor."""
    began = time.perf_counter(), time.process_time()
    counted = Read(host)
    view = await read_host(counted)  # type: ignore[arg-type]
    return view, counted.count, time.perf_counter() - began[0], time.process_time() - began[1]


PASSES = """
import asyncio, sys, pathlib
import vfio_ap_agent.cluster.run
from vfio_ap_agent import status
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.desired import parse
from vfio_ap_agent.host.client import open_host
from vfio_ap_agent.keys import picture
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
def resident(what="VmRSS"):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024
async def main():
    print("imported", resident())
    state = StateDir(pathlib.Path(sys.argv[2]))
    host, samples = open_host("unix:" + sys.argv[1]), Samples(state)
    applier = Applier(host, OursFile(state), samples, None)
    uuids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(20)]
    mdevs = [{"uuid": u, "matrix": f"m{n}", "adapters": str(n), "domains": "0-9"} for n, u in enumerate(uuids)]
    for _ in range(4):
        outcome = await applier.apply(parse({"mdevs": mdevs}).wish)
        await samples.take(host, outcome.view)
        status.build(outcome.view, outcome.plan, outcome.reports, samples, picture(outcome.view, samples, ()))
    print("working", resident()); print("peak", resident("VmHWM"))
asyncio.run(main())
"""


async def memory() -> None:
    """Print what the agent of a cluster takes at 60 x 85, after passes over 20 devices."""
    with tempfile.TemporaryDirectory() as folder:
        document = {
            "adapters": [{"id": n, "type": "CEX8C"} for n in range(60)],
            "usageDomains": "0-84",
            "maxDomain": 84,
        }
        async with Simulator(boot(machine_from(document), "K7.1"), Path(folder, "s")):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PASSES, f"{folder}/s", f"{folder}/state", stdout=subprocess.PIPE
            )
            out, _ = await process.communicate()
    found = dict(line.split() for line in out.decode().splitlines())
    text = ", ".join(f"{name} {float(value):.1f} MiB" for name, value in found.items())
    say(f"\nmemory of the agent of a cluster at 60 x 85, resident: {text}\n")


def main() -> None:
    """Measure everything that can be measured here."""
    if sys.argv[1:] == ["in-the-mount"]:
        in_the_mount()
        return
    side_by_side()
    asyncio.run(memory())
    reading_and_planning()


if __name__ == "__main__":
    main()
