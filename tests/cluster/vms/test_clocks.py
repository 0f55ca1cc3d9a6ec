"""An agent whose clock is hours off is heard, believed and moved to as any other."""

import datetime
import sys

import pytest

from vfio_ap_kube.client import LEASES
from vfio_ap_sim.cluster import SYSTEM

from ..cli.conftest import Terminal
from .people import BANK
from .test_moves import outcome, request

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}
OFF = """
import datetime, sys, time
true, right = time.time, datetime.datetime
class Wrong(right):
    @classmethod
    def now(cls, tz=None):
        return right.now(tz) + datetime.timedelta(hours={hours})
datetime.datetime, time.time = Wrong, lambda: true() + 3600 * {hours}
from vfio_ap_agent.cli import main
sys.exit(main())
"""
"""The agent as it ships, in a process with another idea of the time."""


async def off(people, node, hours):
    """Return once the node's agent has renewed its Lease by a clock that is so many hours off, more or less."""

    def renewed(lease):
        stamp = datetime.datetime.fromisoformat(lease["spec"]["renewTime"])
        return abs(stamp - datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)).seconds < 1800

    await people.cluster.until(LEASES.within(SYSTEM), node, renewed, f"renewed {hours} h off")


@pytest.mark.parametrize("hours", [-5, 5])
async def test_an_agent_whose_clock_is_hours_off_is_heard_and_its_node_is_moved_to(people, hours):
    uuid = await people.matrix("timeless")
    source = await people.boot("punctual", "timeless")
    target = max(EQUAL - {source})
    terminal = Terminal(people.cluster, people.cluster.plane.kubeconfig)
    with people.image("vfio-ap-agent", [sys.executable, "-c", OFF.format(hours=hours)]):
        await people.kill_agent(target)
        await off(people, target, hours)
    try:
        await people.cluster.apply(request("ask-first", "punctual", dryRun=True))
        verdicts = {n["name"]: n.get("reason") for n in (await outcome(people, "ask-first", "Checked"))["nodes"]}
        said = (await terminal.ap("nodes", columns=200)).out
        row = next(line.split() for line in said.splitlines() if line.startswith(target))
        assert (verdicts[target], row[-2:]) == (None, ["alive", "Ready"])
        assert (await terminal.ap("check", "vm/punctual", "-n", BANK, "--node", target)).code == 0
        await people.cluster.apply(request("then-go", "punctual", node=target))
        status = await outcome(people, "then-go", "Succeeded", "Alarm", "Failed", "Refused")
        assert status["phase"] == "Succeeded"
        assert people.users(uuid)[target] == "bank_punctual"
    finally:
        await people.kill_agent(target)
        await off(people, target, 0)
        await people.cluster.plane.kubectl("delete", "apmigration", "--all", "-n", BANK)
