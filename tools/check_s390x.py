"""Check that every run-time dependency of what ships installs on s390x: from a wheel, or as pure Python.

Asks pip to resolve the requirements of operator and agent for s390x with wheels only, at the versions of
requirements.lock. Needs the package index; says so and succeeds when it cannot be reached, unless CI is set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHIPPED = ("core", "crds", "kube", "operator", "node-agent", "cli", "hook-sidecar")
PYTHON = "3.13"
PLATFORMS = ("manylinux_2_17_s390x", "manylinux2014_s390x", "manylinux_2_28_s390x")


def requirements() -> list[str]:
    """Return what the shipped members need from others, their extras included."""
    found: set[str] = set()
    for member in SHIPPED:
        project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
        for extra in [project["dependencies"], *project.get("optional-dependencies", {}).values()]:
            found |= {item for item in extra if not item.startswith("vfio-ap-")}
    return sorted(found)


def pins() -> str:
    """Return the locked versions as constraints, without markers and hashes."""
    text = (ROOT / "requirements.lock").read_text()
    return "\n".join(re.findall(r"^[A-Za-z0-9._-]+==[^ ;\\\n]+", text, re.MULTILINE))


def main() -> int:
    """Return the exit code: 0 fine, 1 a dependency has no wheel for s390x."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(pins())
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", folder]
        command += ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
        command += [f"--platform={platform}" for platform in (*PLATFORMS, "any")]
        command += ["--ignore-installed", "--constraint", str(constraints), *requirements()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        sys.stdout.write(f"s390x: all run-time dependencies have wheels for CPython {PYTHON}\n")
        return 0
    unreachable = "Failed to establish a new connection" in done.stderr or "getaddrinfo" in done.stderr
    if unreachable and not os.environ.get("CI"):
        sys.stdout.write("s390x: not checked, the package index cannot be reached\n")
        return 0
    sys.stderr.write(done.stderr + "s390x: a run-time dependency cannot be installed from wheels\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
