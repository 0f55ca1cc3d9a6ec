"""Shell scripts that see a mounted machine as their /sys, in a user and mount namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
MACHINE = {"adapters": [{"id": 4}, {"id": 5}, {"id": 6}], "usageDomains": "4,6,0xab"}
PRELUDE = """
set -u
cd "$FOLDER"
sim() { "$PYTHON" -m vfio_ap_sim.cli "$@"; }
ctl() { sim ctl --control "$FOLDER/control" "$@"; }
mkdir sys; mkfifo ready
"$PYTHON" -m vfio_ap_sim.cli mount --config machine.yaml $OPTIONS --control control sys > ready &
SIMULATOR=$!
trap 'kill $SIMULATOR; wait $SIMULATOR' EXIT
read -r line < ready || exit 97
mount --bind sys /sys || exit 98
BUS=/sys/bus/ap MDEV=/sys/bus/mdev/devices MATRIX=/sys/devices/vfio_ap/matrix
CREATE=$MATRIX/mdev_supported_types/vfio_ap-passthrough/create
A=aaaaaaaa-0000-4000-8000-000000000001
"""


@cache
def missing() -> str | None:
    """What this machine lacks for it, if anything."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        return "no user and mount namespaces here"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no access to /dev/fuse here"
    return None


def shell(folder: Path, script: str, *, profile: str = "K7.1", uevents: bool = False, **machine: object) -> str:
    """Run a bash script on a mounted machine; return what it wrote to both outputs, or skip."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    (folder / "machine.yaml").write_text(yaml.safe_dump({**MACHINE, **machine}))
    environment = os.environ | {"FOLDER": str(folder), "PYTHON": sys.executable, "LC_ALL": "C"}
    environment["OPTIONS"] = f"--profile {profile}" + (" --uevents" if uevents else "")
    done = subprocess.run(
        [*NAMESPACE, *(["--net"] if uevents else []), "bash", "-c", PRELUDE + script + "\n:"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
