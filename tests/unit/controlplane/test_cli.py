import os
import subprocess
import sys

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
