"""The same random operations on booted kernels and on the model: same errnos, files, log lines, uevents and scans.

AP_DIFFERENTIAL=N plays N times as many sequences. A difference is shrunk, on the real kernel, to the operations
that it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import pytest

from . import player
from .modelled import Modelled
from .operations import Sequence, sequence, usual_conf
from .rig import Rig

KERNELS = {"7.2": "K7.1", "6.12": "K6.12"}
SEQUENCES, LENGTH = 18, 60
ROUNDS = 12
"""Most times that a failing sequence is made shorter."""
TOLD = 5
"""Most parts of a list of which a difference is told."""
Played = dict[str, tuple[Rig, list[Any]]]
pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def sequences() -> list[Sequence]:
    number = SEQUENCES * int(os.environ.get("AP_DIFFERENTIAL", "1"))
    return [sequence(seed, LENGTH) for seed in range(number)]


@pytest.fixture(scope="module")
def played(sequences: list[Sequence], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Play everything on all kernels at the same time; they stay up for shrinking."""
    rigs = {kernel: Rig(kernel, tmp_path_factory.mktemp("rig") / kernel) for kernel in KERNELS}

    def run(rig: Rig) -> list[Any]:
        rig.up()
        return rig.play(usual_conf(), sequences)

    try:
        with ThreadPoolExecutor() as threads:
            seen = [*threads.map(run, rigs.values())]
        yield {kernel: (rig, views) for (kernel, rig), views in zip(rigs.items(), seen, strict=True)}
    finally:
        for rig in rigs.values():
            rig.down()


def modelled(profile: str, operations: Sequence) -> list[Any]:
    """Play a sequence on the model; through JSON, as the real one's views come."""
    seen: list[Any] = json.loads(json.dumps(player.play(Modelled(profile, usual_conf()), operations)))
    return seen


def difference(profile: str, operations: Sequence, real: list[Any]) -> tuple[int, str] | None:
    """Return after how many operations the two differ and how, or None."""
    for number, (theirs, ours) in enumerate(zip(real, modelled(profile, operations), strict=True)):
        if theirs != ours:
            return number, told(theirs, ours)
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


def shrunk(rig: Rig, profile: str, operations: Sequence) -> Sequence:
    """Return a shorter sequence on which the two still differ: first quarters go, at last single operations."""
    chunk = max(1, len(operations) // 4)
    for _ in range(ROUNDS):
        shorter = [operations[:at] + operations[at + chunk :] for at in range(0, len(operations), chunk)]
        pairs = zip(shorter, rig.play(usual_conf(), shorter), strict=True)
        failing = next((found for found, real in pairs if difference(profile, found, real)), None)
        if failing is not None:
            operations = failing
        elif chunk == 1:
            break
        else:
            chunk //= 2
        chunk = max(1, min(chunk, len(operations) // 2))
    return operations


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_model_does_what_the_kernel_does(
    kernel: str, played: Played, sequences: list[Sequence], capsys: pytest.CaptureFixture[str]
) -> None:
    rig, views = played[kernel]
    profile = KERNELS[kernel]
    for seed, (operations, real) in enumerate(zip(sequences, views, strict=True)):
        found = difference(profile, operations, real)
        if found is not None:
            least = shrunk(rig, profile, operations[: found[0]])
            last = difference(profile, least, rig.play(usual_conf(), [least])[0]) or found
            steps = "\n".join(map(str, least))
            pytest.fail(f"seed {seed} differs after\n{steps}\n{last[1]}", pytrace=False)
    with capsys.disabled():
        print(f"\n{kernel} and {profile}: {len(sequences) * LENGTH} operations, no difference", end=" ")  # noqa: T201
