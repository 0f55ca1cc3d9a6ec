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

import yaml

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
AGENT = "cd /opt && PYTHONPATH=/opt python3 -m vfio_ap_agent.cli"


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

    def rig(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self._run), *arguments], env=self._environment, capture_output=True, text=True, timeout=170
        )

    def sh(self, command: str, *, check: bool = True) -> str:
        """Run a shell command as root in it and return its output."""
        done = self.rig("exec", command)
        if check and done.returncode:
            pytest.fail(f"{command!r} gave {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def agent(self, *arguments: str, code: int = 0) -> dict:
        """Run the agent and return its JSON document; its exit code must be the given one."""
        done = self.rig("exec", f"{AGENT} {' '.join(arguments)} -o json")
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout) if done.stdout else {}

    def desire(self, mdevs: list[dict], reserved: list[dict] | None = None) -> str:
        """Write a desired file into it and return the option that names it."""
        text = yaml.safe_dump({"mdevs": mdevs, "hostReserved": reserved or []})
        (self.state / "share" / "desired.yaml").write_text(text)
        return "--desired /share/desired.yaml"


@pytest.fixture(scope="module", params=["7.2", "6.12"])
def guest(request, bundle, tmp_path_factory):
    """Boot a kernel with six adapters x four domains, the agent in /opt."""
    machine = Guest(rig(), tmp_path_factory.mktemp(f"rig-{request.param}"), request.param)
    up = machine.rig("up")
    try:
        assert up.returncode == 0, f"the kernel did not boot: {up.stderr[-2000:]}"
        (machine.state / "share" / "agent.tar").write_bytes(bundle.read_bytes())
        machine.sh(
            "mkdir -p /opt /run/lock && tar xf /share/agent.tar -C /opt && python3 -m compileall -q /opt >/dev/null; true"
        )
        yield machine
    finally:
        machine.rig("down")
