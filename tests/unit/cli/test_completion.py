"""Completion, in kubectl's words and in the shells'."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vfio_ap_cli.completion import answer
from vfio_ap_cli.main import commands

from .world import cluster

BIN = Path(sys.executable).parent


@pytest.fixture
def snapshot(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(cluster()))
    return str(path)


def words(*begun):
    *lines, directive = answer(commands, begun).splitlines()
    return [line.split("\t")[0] for line in lines], directive


def test_commands():
    assert words("ma") == (["matrix"], ":4")
    assert {"nodes", "matrix", "doctor"} <= set(words("")[0])


def test_names_come_from_where_the_line_says(snapshot):
    assert words("nodes", "--snapshot", snapshot, "lnx")[0] == ["lnx1", "lnx2", "lnx3"]
    assert words("matrix", "--snapshot", snapshot, "")[0] == ["payments"]


def test_without_a_cluster_there_is_nothing_and_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert words("nodes", "") == ([], ":4")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(ap, shell):
    done = ap([], "completion", shell)
    assert done.exit_code == 0
    assert "_KUBECTL_AP_COMPLETE" in done.stdout


def test_the_installed_program_answers_kubectl():
    done = subprocess.run([BIN / "kubectl_complete-ap", "do"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ":4"
    assert done.stdout.startswith("doctor\t")


def test_help_imports_nothing_heavy():
    load = "from vfio_ap_cli.main import commands as c\nfor name in c.list_commands(0): c.get_command(0, name)"
    command = [sys.executable, "-c", f"{load}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"pydantic", "aiohttp", "yaml", "vfio_ap_kube"} & set(done.stdout.split())


def test_help_is_quick():
    best = min(_seconds() for _ in range(3))
    assert best < 0.4


def _seconds():
    """Return what one run costs the processor: what the clock says depends on who else is at work."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([BIN / "kubectl-ap", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
