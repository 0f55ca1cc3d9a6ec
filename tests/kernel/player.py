"""Runs in the guest: reads the steps of a scenario, does one after the other, writes what came of them.

Kinds of steps: ``sh`` is a shell command, ``agent`` the agent's arguments, ``desire`` the document it is to apply,
``override`` the same where the host shows no mode yet and is to use driver_override, ``persist`` with definitions,
``kills`` wishes that are carried out by an agent that ends before and after each write.
"""

import asyncio
import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, "/opt")

from vfio_ap.host.ops import Write
from vfio_ap_agent import cli
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.desired import parse
from vfio_ap_agent.host.client import open_host
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir

DESIRED = Path("/tmp/desired.json")  # YAML is JSON's superset; nobody else is in there


def agent(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([*arguments.split(), "-o", "json"])
        except SystemExit as error:
            code = error.code
    text = out.getvalue()
    return {"code": code, "document": json.loads(text) if text else None, "stderr": err.getvalue()}


def shell(command):
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def desire(document, *options):
    DESIRED.write_text(json.dumps(document))
    return agent(" ".join(["apply", "--desired", str(DESIRED), *options]))


def override(document):
    return desire(document, "--queue-control override")


def persist(document):
    return desire(document, "--persist")


class Killed(Exception):
    """The agent ended here."""


class Deadly:
    """The host, on which the agent ends at its first write, right before or right after it."""

    def __init__(self, host, *, after):
        self._host, self._after = host, after

    async def run(self, ops, *, deadline):
        writes = any(isinstance(op, Write) for op in ops)
        if writes and not self._after:
            raise Killed
        results = await self._host.run(ops, deadline=deadline)
        if writes:
            raise Killed
        return results


def kills(documents):
    """From wish to wish with an end before and after every write, each life with what is on the disk."""
    return asyncio.run(_kills(documents))


async def _kills(documents):
    host, lives, states = open_host(""), 0, []
    for document in documents:
        wish, after = parse(document).wish, False
        while True:
            try:
                outcome = await _life(Deadly(host, after=after), wish)
                break
            except Killed:
                lives, after = lives + 1, not after
        states.append([report.state for report in outcome.reports])
    await host.close()
    return {"lives": lives, "states": states}


async def _life(host, wish):
    state = StateDir(Path("/var/lib/vfio-ap-agent"))
    return await Applier(host, OursFile(state), Samples(state), Path("/run/lock/s390apconfig.lock")).apply(wish)


KINDS = {"sh": shell, "agent": agent, "desire": desire, "override": override, "persist": persist, "kills": kills}
results = {}
for name, kind, what in json.loads(Path(sys.argv[1]).read_text()):
    began = time.monotonic()
    results[name] = KINDS[kind](what)
    results[name]["seconds"] = round(time.monotonic() - began, 1)
Path(sys.argv[2]).write_text(json.dumps(results))
