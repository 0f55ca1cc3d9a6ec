import os
import subprocess
import sys

import pytest

from vfio_ap_sim.controlplane.tools import TOOLS


def run(*args, **environ):
    command = [sys.executable, "-m", "vfio_ap_sim.controlplane", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=60)


def test_binaries_prints_name_path_and_source(tmp_path):
    for tool in TOOLS:
        (tmp_path / tool.name).write_text("#!/bin/sh\n")
        (tmp_path / tool.name).chmod(0o755)
    done = run("binaries", VFIO_AP_BIN_DIR=str(tmp_path))
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == {tool.name for tool in TOOLS}
    assert lines["etcd"].endswith(f"-> {tmp_path / 'etcd'} (folder)")
    assert "\r" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_server_that_dies_at_start_is_an_error_and_leaves_nothing(tmp_path):
    binaries, temporary = tmp_path / "bin", tmp_path / "tmp"
    binaries.mkdir()
    temporary.mkdir()
    for tool in TOOLS:
        (binaries / tool.name).write_text("#!/bin/sh\necho out of luck; exit 7\n")
        (binaries / tool.name).chmod(0o755)
    done = run("up", VFIO_AP_BIN_DIR=str(binaries), TMPDIR=str(temporary))
    assert done.returncode == 1
    assert "error: etcd: ended with 7" in done.stderr
    assert "out of luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


ECHO = f"""#!{sys.executable} -IS
import os, sys
print(os.getpid(), sys.argv[1:])
sys.exit(3)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["lint", "--quiet", "--strict", "a chart"],
        ["--help"],
        ["-h"],
        ["--", "binaries", "--", "-x"],
        ["--run-dir=x", "up", ""],
        [],
    ],
    ids=str,
)
def test_run_becomes_the_tool_with_its_arguments_untouched(tmp_path, arguments):
    (tmp_path / "helm").write_text(ECHO)
    (tmp_path / "helm").chmod(0o755)
    command = [sys.executable, "-m", "vfio_ap_sim.controlplane", "run", "helm", *arguments]
    environ = {**os.environ, "VFIO_AP_BIN_DIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        said, _ = process.communicate(timeout=60)
    assert said == f"{process.pid} {arguments}\n"
    assert process.returncode == 3


@pytest.mark.parametrize("arguments", [[], ["podman"], ["--strict"]], ids=str)
def test_run_without_a_tool_is_misuse(arguments):
    done = run("run", *arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_run_names_the_tools():
    assert "run takes one of etcd, kube-apiserver" in run("run", "podman").stderr
