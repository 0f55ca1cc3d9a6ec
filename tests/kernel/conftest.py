"""A real s390x kernel, booted once per kernel and run of the tests, with the agent as it ships inside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WHEELS = (
    "pydantic",
    "pydantic_core",
    "annotated-types",
    "typing-extensions",
    "typing-inspection",
    "PyYAML",
    "pyudev",
)
PLATFORMS = ("manylinux_2_17_s390x", "manylinux2014_s390x", "manylinux_2_28_s390x")
PACKAGES = ("core/vfio_ap", "crds/vfio_ap_api", "node-agent/vfio_ap_agent")


def rig() -> Path:
    """Return the rig's folder, or skip."""
    named = os.environ.get("AP_REAL_KERNEL")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "real-kernel"
    if not (folder / "run.sh").exists():
        pytest.skip(f"no real s390x kernel: AP_REAL_KERNEL is not set and {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """Return an archive of the agent and its base dependencies for s390x."""
    from importlib.metadata import version

    rig()
    folder = tmp_path_factory.mktemp("wheels")
    wanted = [f"{name}=={version(name)}" for name in WHEELS]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "--python-version", "3.13", *platforms, *wanted], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no s390x wheels: {done.stderr.strip()[-200:]}")
    root = tmp_path_factory.mktemp("opt")
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(root)
    archive = root.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        for item in root.iterdir():
            tar.add(item, item.name)
        for package in PACKAGES:
            tar.add(
                REPOSITORY / package, Path(package).name, filter=lambda i: None if "__pycache__" in i.name else i
            )
    return archive


class Guest:
    """One booted kernel."""

    def __init__(self, folder: Path, state: Path, kernel: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.kernel = kernel
        self._run = folder / "run.sh"
        self.state = state
        self._environment = os.environ | {"RIG_STATE": str(state), "RIG_PORT": str(port), "RIG_KERNEL": kernel}

    def rig(self, *arguments: str, limit: float = 170) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self._run), *arguments], env=self._environment, capture_output=True, text=True, timeout=limit
        )

    def play(self, scenario: list[tuple[str, str, object]]) -> dict[str, dict]:
        """Run steps of (name, kind, what) in one process, since every start of Python takes seconds in emulation.

        Kinds: ``sh`` is a shell command, ``agent`` the agent's arguments, ``desire`` the document it is to apply,
        ``override`` the same where the host shows no mode yet and is to use driver_override.
        Return by name what each printed and its exit code.
        """
        (self.state / "share" / "scenario.json").write_text(json.dumps(scenario))
        done = self.rig("exec", "cd /opt && python3 /share/player.py /share/scenario.json", limit=900)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["7.2", "6.12"])
def guest(request, bundle, tmp_path_factory):
    """Boot a kernel with six adapters x four domains, the agent in /opt."""
    machine = Guest(rig(), tmp_path_factory.mktemp(f"rig-{request.param}"), request.param)
    # The guest changes its own hardware: the rig reads ap.conf through this link.
    (machine.state / "share").mkdir()
    (machine.state / "share" / "ap.conf").touch()
    (machine.state / "ap.conf").symlink_to("share/ap.conf")
    up = machine.rig("up")
    try:
        assert up.returncode == 0, f"the kernel did not boot: {up.stderr[-2000:]}"
        (machine.state / "share" / "agent.tar").write_bytes(bundle.read_bytes())
        (machine.state / "share" / "player.py").write_bytes(Path(__file__).with_name("player.py").read_bytes())
        unpacked = machine.rig("exec", "mkdir -p /opt /run/lock && tar xf /share/agent.tar -C /opt")
        assert unpacked.returncode == 0, unpacked.stderr
        yield machine
    finally:
        machine.rig("down")
