"""The rig that boots real s390x kernels. What is played in them is for the tests to say."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 600.0
"""Seconds for a boot, which takes 15 on an idle machine."""


def folder() -> Path:
    """Return the folder with the rig's run.sh, or skip."""
    named = os.environ.get("AP_REAL_KERNEL")
    found = Path(named) if named else REPOSITORY.parent / "shared" / "real-kernel"
    if not (found / "run.sh").exists():
        pytest.skip(f"no real s390x kernel: AP_REAL_KERNEL is not set and {found} is not there")
    return found


def load() -> str:
    """Return how busy this machine is and was."""
    averages = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"load {averages} of the last 1, 5 and 15 minutes on {os.cpu_count()} CPUs"


class Rig:
    """One booted kernel."""

    def __init__(self, kernel: str, state: Path) -> None:
        self.kernel = kernel
        self.share = state / "share"
        """What is here is in the guest's /share."""
        self._script = folder() / "run.sh"
        self._console = state / "console.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._environment = os.environ | {"RIG_KERNEL": kernel, "RIG_STATE": str(state), "RIG_PORT": str(port)}
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ap-real-kernel"
        cache.mkdir(parents=True, exist_ok=True)
        self.share.mkdir(parents=True)
        # The guest changes its own hardware: the rig reads ap.conf through this link.
        (self.share / "ap.conf").touch()
        (state / "ap.conf").symlink_to("share/ap.conf")

    def up(self) -> None:
        """Boot, or skip where the emulator does not start."""
        done = self._run("up")
        end = time.monotonic() + PATIENCE
        while "did not come up" in done.stderr and time.monotonic() < end:
            # It goes on booting; the rig itself waits two minutes only, which a busy machine exceeds.
            time.sleep(1)
            if "exec server ready" in self._console.read_text(errors="replace"):
                done = self._run("exec", "true")
        if done.returncode:
            reason = done.stderr.strip()[-200:]
            if "error while loading shared libraries" in reason:
                pytest.skip(f"the emulator does not start: {reason}")
            raise AssertionError(f"{reason}; {load()}")

    def down(self) -> None:
        """Stop it."""
        self._run("down")

    def give(self, program: Path) -> None:
        """Copy a file to the guest's /share."""
        (self.share / program.name).write_bytes(program.read_bytes())

    def run(self, command: str) -> None:
        """Run a command in the guest's shell; it must succeed."""
        done = self._run("exec", command)
        assert done.returncode == 0, f"{load()}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._script), *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=1800)
