"""The agent as it ships, for a real s390x kernel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from .rig import REPOSITORY, folder

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


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """Return an archive of the agent and its base dependencies for s390x."""
    folder()
    wheels = tmp_path_factory.mktemp("wheels")
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
        str(wheels),
    ]
    done = subprocess.run(
        [*command, "--python-version", "3.13", *platforms, *wanted], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no s390x wheels: {done.stderr.strip()[-200:]}")
    root = tmp_path_factory.mktemp("opt")
    for wheel in wheels.glob("*.whl"):
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
