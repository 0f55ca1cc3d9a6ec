"""The rig that boots real s390x kernels, as far as the comparison needs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .operations import Sequence

HERE = Path(__file__).parent
PROGRAMS = ("player.py", "real.py")
PATIENCE = 600.0
"""Seconds for a boot, which takes 15 on an idle machine."""


def folder() -> Path:
    """Return the folder with the rig's run.sh, or skip."""
    named = os.environ.get("AP_REAL_KERNEL")
    found = Path(named) if named else HERE.parents[2].parent / "shared" / "real-kernel"
    if not (found / "run.sh").exists():
        pytest.skip(f"no real s390x kernel: AP_REAL_KERNEL is not set and {found} is not there")
    return found


@dataclass(frozen=True)
class Run:
    """One sequence, played."""

    views: list[Any]
    """What ``player.play`` returned."""
    seconds: list[float]
    """What each operation took in the guest, with the look after it."""


def load() -> str:
    """Return how busy this machine is and was."""
    averages = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"load {averages} of the last 1, 5 and 15 minutes on {os.cpu_count()} CPUs"


class Rig:
    """One booted kernel."""

    def __init__(self, kernel: str, state: Path) -> None:
        self._script = folder() / "run.sh"
        self._share = state / "share"
        self._console = state / "console.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._environment = os.environ | {"RIG_KERNEL": kernel, "RIG_STATE": str(state), "RIG_PORT": str(port)}
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ap-real-kernel"
        cache.mkdir(parents=True, exist_ok=True)
        self._share.mkdir(parents=True)
        # The guest changes its own hardware: the rig reads ap.conf through this link.
        (self._share / "ap.conf").touch()
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
        # Nothing that is compared needs udev, and its work on every uevent takes most of the emulated CPU.
        self._run("exec", "udevadm control --exit")
        for name in PROGRAMS:
            (self._share / name).write_text((HERE / name).read_text())

    def down(self) -> None:
        """Stop it."""
        self._run("down")

    def play(self, conf: list[str], sequences: list[Sequence]) -> list[Run]:
        """Play sequences one after the other, each from the same beginning."""
        (self._share / "in.json").write_text(json.dumps({"conf": conf, "sequences": sequences}))
        done = self._run("exec", "python3 /share/player.py /share/in.json /share/out.json")
        assert done.returncode == 0, f"{load()}\n{done.stderr[-3000:]}"
        return [Run(**run) for run in json.loads((self._share / "out.json").read_text())]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._script), *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=1800)
