"""``make demo`` as people run it: kept to play with, interrupted in mid-move, without the programs of KubeVirt."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane import BinaryUnavailableError, default_binaries
from vfio_ap_sim.controlplane.tools import OPTIONAL, TOOLS

pytestmark = pytest.mark.cluster
LONGEST = 300
ELSEWHERE = {
    "HELM_KUBECONTEXT": "production",
    "HELM_KUBEAPISERVER": "https://production.example.com",
    "KUBECONFIG": "/nonexistent/production",
    "HTTPS_PROXY": "http://127.0.0.1:1",
}
"""Settings of a user that lead to other clusters, or to nowhere."""


@pytest.fixture(scope="module", autouse=True)
def programs():
    """The binaries, got beforehand, so that no test waits for them."""
    try:
        return default_binaries().get_all(TOOLS + OPTIONAL)
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def demo(tmp_path_factory):
    """Start the demo with temporary files and a mark of its own; afterwards nothing of it may be there."""
    # Short: sockets have 108 bytes for their path
    folder = Path("/tmp") / f"vd{os.getpid()}"
    folder.mkdir()
    mark = f"VFIO_AP_DEMO_{folder.name}"

    def start(*arguments, **environ):
        return subprocess.Popen(
            [sys.executable, "-m", "vfio_ap_sim.demo", *arguments],
            env={**os.environ, "TMPDIR": str(folder), mark: "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    yield start
    assert not marked(mark)
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    folder.rmdir()  # fails if anything is left


def marked(mark):
    """Return the command lines of processes that inherited an environment variable of this name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue  # it ended, or is another user's
    return found


def columns(programs, words, *arguments):
    """Return the header and the rows of a table, as whoever took over the printed settings sees it."""
    settings = dict(word.split("=", 1) for word in words)
    command = [programs["kubectl"].path, "get", *arguments]
    table = subprocess.run(command, env=settings, capture_output=True, text=True, check=True, timeout=60).stdout
    header, *rows = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    return header, rows


def test_the_demo_goes_to_its_end_and_stays_to_play_with_until_it_is_interrupted(demo, programs):
    process = demo("--keep", **ELSEWHERE)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.split()[:1] == ["export"]:
            break
    assert said[-1].split()[:1] == ["export"], "".join(said)
    words = [word for word in shlex.split(said[-1])[1:] if not word.startswith("PATH=")]
    header, rows = columns(programs, words, "apm")
    assert header == ["NAME", "UUID", "ADAPTERS", "DOMAINS", "READY", "USED-BY", "STATE", "AGE"]
    assert {(row[0], row[2], row[3], row[4], row[5]) for row in rows if len(row) == 8} == {
        ("guest1", "5-6", "4,171", "2/2", "bank/ledger"),
        ("guest2", "5", "71,255", "3/3", "bank/teller"),
    }
    assert [row[4] for row in rows if row[0] == "guest3"] == ["Refused (Overlap)"]  # no UUID, no user
    header, rows = columns(programs, words, "apn")
    assert header == ["NAME", "MACHINE", "ADAPTERS", "HOST", "GUEST", "MDEVS", "LIVE", "STATE", "AGE"]
    assert {row[0]: row[5] for row in rows} == {"lnx1": "0/0", "lnx2": "2/2", "lnx3": "0/0"}
    process.send_signal(signal.SIGINT)
    output = "".join(said) + process.communicate(timeout=LONGEST)[0]
    assert process.returncode == 0, output
    lines = output.splitlines()
    assert lines[-1] == "demo: ok"
    flowing = " ".join(output.split())
    for said in (
        "refused: overlaps APMatrix guest1",
        "lnx3: queue 05.0047: mode: CCA on lnx1, EP11 on lnx3",
        "VM teller: Evacuating: moving from node lnx1 to lnx2",
        "node/lnx1 drained",
        "VM ledger: MoveSucceeded: ",
        "has 05.0004 05.00ab 06.0004 06.00ab, in use by bank_ledger",
        "lnx1: no mediated device, and every queue is the host's",
    ):
        assert said in flowing, output


def test_nothing_is_left_of_a_demo_that_is_interrupted_in_the_middle_of_a_move(demo):
    process = demo()
    said = []
    for line in process.stdout:
        said.append(line)
        if ": Evacuating:" in line:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)  # the second one disturbs nothing
            break
    output, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 130, "".join(said) + output
    assert "Traceback" not in output
    assert "demo: ok" not in output


def test_without_kubevirts_programs_it_says_so_and_starts_nothing(demo, programs, tmp_path):
    cache = tmp_path / "vfio-ap-operator" / "bin"
    cache.mkdir(parents=True)
    for tool in TOOLS:
        path = programs[tool.name].path
        (cache / f"{tool.name}-{tool.version}").symlink_to(path.parent)
    no_modules = {"GOPROXY": "off", "GOMODCACHE": str(tmp_path / "mod"), "PIP_NO_INDEX": "1"}
    process = demo(XDG_CACHE_HOME=str(tmp_path), VFIO_AP_BIN_DIR="", **no_modules)
    output, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 1, output
    assert output.splitlines()[-1].startswith("demo: failed: virt-api v1.8.4: ")
    assert "control plane" not in output
