"""The command line: what it prints, its exit codes, and what it must not import."""

import json
import subprocess
import sys

import pytest
import yaml

from vfio_ap.host import grid
from vfio_ap.host.view import HostView
from vfio_ap_agent import cli, paths
from vfio_ap_agent.inventory import read_host
from vfio_ap_sim.kernel import boot, machine_from
from vfio_ap_sim.serve import Simulator

from .support import FOREIGN, A, B, Node, wanted


@pytest.fixture
def machine(tmp_path):
    """A served machine, and what runs the agent's command on it."""
    control = boot(machine_from({"adapters": [{"id": 5}, {"id": 6}], "usageDomains": "4,6"}))
    return Machine(tmp_path, control)


class Machine:
    def __init__(self, folder, control):
        self.folder, self.control = folder, control

    async def agent(self, *arguments, desired=None):
        """Return exit code, output and errors of a command."""
        import asyncio

        options = ["--sysfs", f"unix:{self.folder}/s", "--state-dir", str(self.folder / "state")]
        if desired is not None:
            (self.folder / "desired.yaml").write_text(
                desired if isinstance(desired, str) else yaml.safe_dump(desired)
            )
            options += ["--desired", str(self.folder / "desired.yaml")]
        async with Simulator(self.control, self.folder / "s"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "vfio_ap_agent.cli", *arguments, *options, stdout=-1, stderr=-1
            )
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


def desired(**more):
    return {"mdevs": [{"uuid": A, "matrix": "payments", "adapters": "5", "domains": "4", **more}]}


async def test_plan_writes_nothing_apply_does_and_both_say_what(machine):
    code, out, _ = await machine.agent("plan", desired=desired())
    assert code == 0
    assert "apmask  -5" in out or "aqmask  -4" in out
    assert f"create  {A}" in out
    assert machine.control.kernel.mdevs.by_uuid == {}
    code, out, _ = await machine.agent("apply", desired=desired())
    assert code == 0
    assert f"Ready       {A}  payments  adapters 5 x domains 4" in out
    assert "5 CEX8C  A  g" in out
    code, out, _ = await machine.agent("apply", desired=desired())
    assert (code, out.splitlines()[0]) == (0, "nothing was to be done")


async def test_the_inventory_knows_ours_by_name_from_the_record(machine):
    await machine.agent("apply", desired=desired())
    machine.control.kernel.write(paths.CREATE, B)
    _, out, _ = await machine.agent("inventory")
    assert f"A {A}  payments\nB {B}  foreign\n" in out
    _, out, _ = await machine.agent("inventory", "-o", "json")
    mine, theirs = json.loads(out)["mdevs"]
    assert (mine["matrix"], mine["state"], theirs["state"]) == ("payments", "Ready", "Foreign")
    machine.control.kernel.write(f"{paths.mdev(A)}/unassign_domain", "4")
    _, out, _ = await machine.agent("inventory", "-o", "json")
    mine, _ = json.loads(out)["mdevs"]
    assert (mine["state"], mine["reason"]) == ("Failed", "ForeignChange")


async def test_dry_run_is_plan(machine):
    code, out, _ = await machine.agent("apply", "--dry-run", desired=desired())
    assert (code, "to do:" in out, machine.control.kernel.mdevs.by_uuid) == (0, True, {})


async def test_refusals_are_exit_code_1_and_name_queue_and_remedy(machine):
    reserved = {"hostReserved": [{"adapters": "5", "domains": "4"}]}
    code, out, _ = await machine.agent("apply", desired=desired() | reserved)
    assert code == 1
    assert "HostReserved: 05.0004: is wanted and reserved for the host; take it out of one of the two" in out


async def test_machine_readable_output_has_the_shape_of_a_status(machine):
    code, out, _ = await machine.agent("apply", "-o", "json", desired=desired())
    document = json.loads(out)
    assert code == 0
    assert document["mdevs"][0]["state"] == "Ready"
    assert len(document["steps"]) == 3
    _, out, _ = await machine.agent("inventory", "-o", "yaml")
    assert yaml.safe_load(out)["adapters"] == document["adapters"]


@pytest.mark.parametrize(("text", "says"), [("- a", "is not a mapping"), ("a: [", "is not YAML")])
async def test_a_wrong_file_is_exit_code_2(machine, text, says):
    code, out, err = await machine.agent("apply", desired=text)
    assert (code, out) == (2, "")
    assert says in err


def test_no_host_is_exit_code_3(tmp_path, capsys):
    assert cli.main(["inventory", "--sysfs", str(tmp_path), "--state-dir", str(tmp_path)]) == 3
    assert "NoApBus" in capsys.readouterr().err
    assert cli.main(["inventory", "--sysfs", f"unix:{tmp_path}/none", "--state-dir", str(tmp_path)]) == 3
    assert "cannot reach the host" in capsys.readouterr().err


def test_run_without_a_nodes_name_is_exit_code_2(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert cli.main(["run", "--state-dir", str(tmp_path)]) == 2
    assert "NODE_NAME" in caplog.text


def test_a_plain_host_needs_no_cluster_packages():
    code = (
        "import sys; from vfio_ap_agent import cli, apply, status, render; cli.parser(''); "
        "print(*[n for n in sys.modules if n.split('.')[0] in "
        "('aiohttp', 'grpclib', 'google', 'vfio_ap_kube', 'kopf', 'vfio_ap_sim')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


async def test_the_grid_shows_who_has_what(tmp_path):
    node = Node(tmp_path)
    node.kernel.write(f"{paths.BUS}/apmask", "-6")
    node.foreign(adapters="6", domains="6")
    await node.apply(wanted(A, "5", "4"), wanted(B, "5", "17,171"))
    node.control.start_guest("vm", A)
    view = await read_host(node.witness)
    marks = grid.marks_of(list(view.mdevs))
    a, b, f = marks[A], marks[B], marks[FOREIGN]
    lines = grid.render(view, names={A: "payments"}).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["4", "6", "17", "171"],
        ["4", "CEX8C", "h", "h", ".", "h"],
        ["5", "CEX8C", f"{a}*", "g", f"({b})", b],
        ["6", "CEX8C", "g", f, ".", "g"],
    ]
    assert f"{a} {A}  payments  in use by qemu-system-s39 (" in "\n".join(lines)
    assert f"{f} {FOREIGN}  foreign" in lines


async def test_a_full_machine_fits_a_screen(tmp_path):
    adapters = [{"id": number, "type": "CEX8C"} for number in range(60)]
    node = Node(tmp_path, adapters=adapters, usageDomains="0-84", maxDomain=84)
    await node.apply(wanted(A, "3-9", "0-40"), wanted(B, "20,30", "5-80"))
    lines = grid.render(await read_host(node.witness), width=100).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) < 30


def test_the_grid_of_nothing():
    assert grid.render(HostView()) == "no adapters\n"
