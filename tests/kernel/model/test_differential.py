"""The same random operations on booted kernels and on the model: same errnos, files, log lines, uevents and scans.

AP_DIFFERENTIAL=N plays N times as many sequences. A difference is played again on the real kernel. One that comes
back is shrunk to the operations that it needs; one that does not depends on timing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from ..rig import Rig, load
from . import player
from .modelled import Modelled
from .operations import Sequence, sequence, usual_conf

KERNELS = {"7.2": "K7.1", "6.12": "K6.12"}
SEQUENCES, LENGTH = 18, 60
REPLAYS = 3
"""How often a failing sequence is played again."""
SHRINKING = 300.0
"""Seconds after which no further round of making it shorter begins."""
TOLD = 5
"""Most parts of a list of which a difference is told."""
PROGRAMS = [Path(__file__).with_name(name) for name in ("player.py", "real.py")]


@dataclass(frozen=True)
class Run:
    """One sequence, played."""

    views: list[Any]
    """What ``player.play`` returned."""
    seconds: list[float]
    """What each operation took in the guest, with the look after it."""


Played = dict[str, tuple[Rig, list[Run], str]]
"""By kernel: the rig, what was played, and the load meanwhile."""
pytestmark = pytest.mark.kernel


@dataclass(frozen=True)
class Found:
    """A difference between kernel and model."""

    operations: Sequence
    """Those up to it."""
    told: str
    when: str


@pytest.fixture(scope="module")
def sequences() -> list[Sequence]:
    number = SEQUENCES * int(os.environ.get("AP_DIFFERENTIAL", "1"))
    return [sequence(seed, LENGTH) for seed in range(number)]


@pytest.fixture(scope="module")
def played(sequences: list[Sequence], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Play everything on all kernels at the same time; they stay up for shrinking."""
    rigs = {kernel: Rig(kernel, tmp_path_factory.mktemp("rig") / kernel) for kernel in KERNELS}

    def run(rig: Rig) -> tuple[Rig, list[Run], str]:
        rig.up()
        # Nothing that is compared needs udev, and its work on every uevent takes most of the emulated CPU.
        rig.run("udevadm control --exit")
        for program in PROGRAMS:
            rig.give(program)
        return rig, play(rig, sequences), load()

    try:
        with ThreadPoolExecutor() as threads:
            done = [*threads.map(run, rigs.values())]
        yield dict(zip(rigs, done, strict=True))
    finally:
        for rig in rigs.values():
            rig.down()


def play(rig: Rig, sequences: list[Sequence]) -> list[Run]:
    """Play sequences one after the other on a real kernel, each from the same beginning."""
    (rig.share / "in.json").write_text(json.dumps({"conf": usual_conf(), "sequences": sequences}))
    rig.run("python3 /share/player.py /share/in.json /share/out.json")
    return [Run(**run) for run in json.loads((rig.share / "out.json").read_text())]


def modelled(profile: str, operations: Sequence) -> list[Any]:
    """Play a sequence on the model; through JSON, as the real one's views come."""
    seen: list[Any] = json.loads(json.dumps(player.play(Modelled(profile, usual_conf()), operations)))
    return seen


def difference(profile: str, operations: Sequence, run: Run) -> Found | None:
    """Return the first difference between a run and the model, or None."""
    for number, (theirs, ours) in enumerate(zip(run.views, modelled(profile, operations), strict=True)):
        if theirs != ours:
            when = "this was the closer look before or after all operations"
            if 0 < number <= len(run.seconds):
                when = f"operation {number} and the look after it took {run.seconds[number - 1]:.1f} s"
            return Found(operations[:number], told(theirs, ours), when)
    return None


def told(real: Any, model: Any) -> str:
    """Return the parts of a view that differ."""
    if isinstance(real, list) and isinstance(model, list):
        pairs = zip_longest(real, model)
        return "; ".join([told(theirs, ours) for theirs, ours in pairs if theirs != ours][:TOLD])
    if isinstance(real, dict) and isinstance(model, dict):
        names = [name for name in {**real, **model} if real.get(name) != model.get(name)]
        return "; ".join(f"{name}: {told(real.get(name), model.get(name))}" for name in names)
    return f"real {real!r}, model {model!r}"


def shrunk(rig: Rig, profile: str, found: Found) -> Found:
    """Return a difference as seen with fewer operations: first quarters of them go, then single ones."""
    chunk = max(1, len(found.operations) // 4)
    end = time.monotonic() + SHRINKING
    while time.monotonic() < end:
        operations = found.operations
        shorter = [operations[:at] + operations[at + chunk :] for at in range(0, len(operations), chunk)]
        failing = next(differences(rig, profile, shorter), None)
        if failing is not None:
            found = failing
        elif chunk == 1:
            break
        else:
            chunk //= 2
        chunk = max(1, min(chunk, len(found.operations) // 2))
    return found


def differences(rig: Rig, profile: str, sequences: list[Sequence]) -> Iterator[Found]:
    """Play sequences and yield what differs."""
    for operations, run in zip(sequences, play(rig, sequences), strict=True):
        found = difference(profile, operations, run)
        if found is not None:
            yield found


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_model_does_what_the_kernel_does(
    kernel: str, played: Played, sequences: list[Sequence], capsys: pytest.CaptureFixture[str]
) -> None:
    rig, runs, meanwhile = played[kernel]
    profile = KERNELS[kernel]
    for seed, (operations, run) in enumerate(zip(sequences, runs, strict=True)):
        found = difference(profile, operations, run)
        if found is not None:
            again = [*differences(rig, profile, [found.operations] * REPLAYS)]
            least = shrunk(rig, profile, again[0]) if again else found
            steps = "\n".join(map(str, least.operations))
            pytest.fail(
                f"seed {seed} differs after\n{steps}\n{least.told}\n{least.when}\n"
                f"first seen as: {found.told}\n{found.when}; {meanwhile}\n"
                f"played again, {len(again)} of {REPLAYS} runs differed",
                pytrace=False,
            )
    with capsys.disabled():
        print(f"\n{kernel} and {profile}: {len(sequences) * LENGTH} operations, no difference", end=" ")  # noqa: T201
