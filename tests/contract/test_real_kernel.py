"""The model beside a booted kernel: the same random writes, then everything that can be seen must be the same.

Runs when AP_REAL_KERNEL names the directory whose ``run.sh`` boots a Linux for s390x on emulated adapters; about a
minute for each kernel.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfio_ap.hostops import Data, Failed, Link, List, Names, Op, Read, Target, Written
from vfio_ap.hostops import Write as WriteOp
from vfio_ap_sim.kernel import Kernel, boot, machine_from

from . import observe
from .test_transcripts import LPAR, PROFILES

RIG = os.environ.get("AP_REAL_KERNEL")
SEQUENCES, LENGTH = 6, 20
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not RIG, reason="set AP_REAL_KERNEL to the directory with run.sh of a real s390x kernel"),
]


class Rig:
    """One booted kernel."""

    def __init__(self, release: str, state: Path) -> None:
        self._script = f"{RIG}/run.sh"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._environment = os.environ | {"RIG_KERNEL": release, "RIG_STATE": str(state), "RIG_PORT": str(port)}
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ap-real-kernel"
        cache.mkdir(parents=True, exist_ok=True)
        self.share = state / "share"

    def run(self, *arguments: str) -> str:
        """Run the rig's script."""
        command = [self._script, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def play(self, sequences: list[list[observe.Write]]) -> list[Any]:
        """Play sequences in the guest."""
        (self.share / "observe.py").write_text(Path(observe.__file__).read_text())
        (self.share / "in.json").write_text(json.dumps(sequences))
        self.run("exec", "python3 /share/observe.py < /share/in.json > /share/out.json")
        answers: list[Any] = json.loads((self.share / "out.json").read_text())
        return answers


@pytest.fixture(params=PROFILES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Rig, str]]:
    rig = Rig(request.param, tmp_path)
    rig.run("up")
    try:
        yield rig, PROFILES[request.param]
    finally:
        rig.run("down")


class ModelFiles:
    """The files of a modelled kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def read(self, path: str) -> str:
        return str(self._call(Read(path)))

    def write(self, path: str, text: str) -> int | str:
        result = self._call(WriteOp(path, text.encode()))
        return result if isinstance(result, int) else str(result)

    def list(self, path: str) -> list[str] | str:
        names = self._call(List(path))
        return names if isinstance(names, list) else str(names)

    def link(self, path: str) -> str:
        return str(self._call(Link(path)))

    def _call(self, op: Op) -> object:
        match self._kernel.call(op):
            case Data(content):
                return content.decode()
            case Written(count):
                return count
            case Names(names):
                return [*names]
            case Target(target):
                return target
            case Failed() as failed:
                return failed.name


def modelled(profile: str, writes: list[observe.Write]) -> list[Any]:
    """Play a sequence on the model."""
    kernel = boot(machine_from(LPAR), profile).kernel
    lines: list[str] = []
    kernel.log.subscribe(lambda line: lines.append(line.text))

    def log() -> list[str]:
        said = lines.copy()
        lines.clear()
        return said

    return observe.play(ModelFiles(kernel), log, writes)


def test_random_writes_are_answered_alike(rig: tuple[Rig, str]) -> None:
    kernel, profile = rig
    sequences = [observe.sequence(seed, LENGTH) for seed in range(SEQUENCES)]
    for writes, real in zip(sequences, kernel.play(sequences), strict=True):
        model = modelled(profile, writes)
        for number, (seen, expected) in enumerate(zip(model, real, strict=True)):
            assert seen == expected, f"after {writes[:number]}"
