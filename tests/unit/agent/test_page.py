"""docs/agent.md: its commands print what the page says, its options and exit codes are those of the program."""

import asyncio
import configparser
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from vfio_ap_agent import cli
from vfio_ap_agent.arguments import parser
from vfio_ap_agent.desired import load
from vfio_ap_sim.kernel import boot, machine_from
from vfio_ap_sim.serve import Simulator

PAGE = (Path(__file__).parents[3] / "docs" / "agent.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
SESSIONS = re.findall(r"```console\n\$ vfio-ap-agent (.*)\n((?:.*\n)*?)```", PAGE)


async def test_every_command_of_the_page_prints_what_the_page_says(tmp_path):
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    control = boot(machine_from(yaml.safe_load((tmp_path / "machine.yaml").read_text())))
    variables = {"VFIO_AP_SYSFS": "unix:host.sock", "VFIO_AP_STATE_DIR": "state", "COLUMNS": "100"}
    async with Simulator(control, tmp_path / "host.sock"):
        for command, said in SESSIONS:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "vfio_ap_agent.cli", *command.split(),
                cwd=tmp_path, env=os.environ | variables, stdout=-1, stderr=-1,
            )  # fmt: skip
            out, err = await process.communicate()
            assert (out + err).decode().rstrip() == said.rstrip(), command
    assert len(SESSIONS) >= 5


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(--[a-z-]+)`", PAGE))))
def test_every_option_of_the_page_exists(name):
    commands = parser("")._subparsers._group_actions[0].choices.values()
    assert any(name in command._option_string_actions for command in commands)


def test_the_exit_codes_are_those_of_the_program():
    codes = [int(code) for code in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)]
    assert codes == [cli.OK, cli.REFUSED, cli.USAGE, cli.NO_HOST]


def test_every_reason_of_the_page_is_said_somewhere():
    table = PAGE[PAGE.index("| reason |") :]
    reasons = {r for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for r in re.findall(r"`(\w+)`", row)}
    folders = (Path(__file__).parents[3] / name for name in ("core/vfio_ap", "node-agent/vfio_ap_agent"))
    code = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    assert {reason for reason in reasons if f'"{reason}"' not in code} == set()


@pytest.mark.parametrize("name", [name for name, text in FILES if "mdevs:" in text])
def test_every_desired_file_of_the_page_can_be_read(tmp_path, name):
    (tmp_path / name).write_text(dict(FILES)[name])
    assert load(tmp_path / name).problems == ()


def test_the_unit_of_the_page_runs_a_command_that_exists():
    (unit,) = re.findall(r"<!-- unit -->\n```ini\n(.*?)```", PAGE, re.DOTALL)
    found = configparser.ConfigParser(strict=False)
    found.optionxform = str
    found.read_string(unit)
    command = found["Service"]["ExecStart"].split()
    assert command[0].endswith("/bin/vfio-ap-agent")
    assert parser("").parse_args(command[1:]).command == "apply"
    assert {"libvirtd.service", "virtqemud.service"} <= set(found["Unit"]["Before"].split())
