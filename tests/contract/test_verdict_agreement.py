"""The verdict and the kernel agree on thousands of pairs of machines, or a named check that it lacks says why not.

Both hosts are read by the agent's own code, their APNodes become views by the operator's, and the verdict on those
is compared with what the modelled kernel then does: errno and log. VERDICT_PAIRS asks for fewer while developing.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import pytest

from vfio_ap.fleet.verdict import Mode, MovePolicy, MoveVerdict, Reason, recognise, verdict
from vfio_ap.fleet.views import MatrixView
from vfio_ap.matrix import Matrix
from vfio_ap_kube.snapshot.nodes import node_view
from vfio_ap_sim.kernel import ControlError
from vfio_ap_sim.kernel.migration import migrate

from .conftest import A
from .movepairs import PROFILES, Pair, Side, document, draw

PAIRS = 10_000
AGREEMENT: dict[str, Counter[str]] = {}
"""By profile of the kernel: how often both said the same, and which check of ours the kernel does not make."""
BOTH = ("both yes", "both no")
DISTINCT: set[Pair] = set()
KEYLESS = MovePolicy((Mode.LIVE,), master_keys="Ignore")
REQUIRE = MovePolicy((Mode.LIVE,), master_keys="Require")

_TABLE = {Reason.ModeDiffers, Reason.FacilityDiffers, Reason.ClassDiffers}
_DEVICE = {Reason.KernelCannotMigrate, Reason.DeviceAbsent, Reason.DeviceInUse}
_ALWAYS = _DEVICE | {Reason.AdapterOlder}
MADE: dict[str, set[Reason]] = {
    "MIGv1": _ALWAYS | _TABLE | {Reason.FacilityWordDiffers, Reason.GuestMatrixDiffers, Reason.QueueAbsent},
    "MIGv4PLUS": _ALWAYS | {Reason.ControlDomainAbsent, Reason.QueueAbsent},
    "MIGv4PLUS-T": _ALWAYS | _TABLE | {Reason.ControlDomainAbsent, Reason.QueueAbsent, Reason.QueueBound},
}
"""Checks that a kernel makes, by profile: where one of them refuses, the kernel must."""


def ask(pair: Pair) -> tuple[MoveVerdict, str, tuple[str, ...]]:
    """Return the verdict, what the kernel says (empty when it moves the guest) and its log."""
    sides = (("a", pair.source), ("b", pair.target))
    source, target = (node_view(document(name, side, pair.wanted), **AROUND) for name, side in sides)
    policy = REQUIRE if pair.target.keys else KEYLESS
    found = verdict(MatrixView("pay", A, pair.wanted), source, target, policy)
    hosts = [side.ready() for _, side in sides]
    try:
        outcome = migrate(*hosts, A)
    except ControlError as error:
        return found, str(error), ()
    return found, outcome.name or "", outcome.log


AROUND = {"labels": {}, "ready": True, "allocatable": frozenset()}


def judge(pair: Pair, found: MoveVerdict, said: str) -> str:
    """Return what the pair adds to the count. Raises AssertionError where the two contradict each other."""
    reasons = {Reason[refusal.reason] for refusal in found.refusals} - {Reason.ModeNotAllowed}
    if not said and found.mode is Mode.LIVE:
        return "both yes"
    assert found.mode is None, f"{pair.changes}: the kernel says {said}, the verdict yes"
    assert reasons
    if said:
        return "both no"
    made = MADE[pair.target.profile] if pair.target.profile == pair.source.profile else set()
    if Reason.NothingInGuest in reasons:
        made = made & _DEVICE  # there is no queue that the kernel could miss or compare
    assert not reasons & made, f"{pair.changes}: the kernel takes it, the verdict says {found.refusals}"
    return " + ".join(sorted(reason.name for reason in reasons))


def compare_words(pair: Pair, found: MoveVerdict, log: tuple[str, ...]) -> None:
    """Raise AssertionError where the kernel's log tells of a difference that the verdict does not."""
    told = set()
    for line in log:
        heard = recognise(line)
        assert heard is not None, f"not recognised: {line}"
        told.add(heard.reason)
    if pair.source.profile != pair.target.profile:
        return
    said = {refusal.reason for refusal in found.refusals}
    # These name no difference, or are told of every queue that differs whatever it differs in.
    told -= {"QueueNotCompatible", "QueueNotInDevice"} | (
        {"AdapterOlder"} if pair.target.profile == "MIGv1" else set()
    )
    if said & {"DevicePending", "DeviceFailed", "DeviceForeign"}:
        told -= {"GuestMatrixDiffers"}  # what is in a device that is not in order is not looked at
    assert told <= said, log


def summary() -> list[str]:
    """Return the count, and by kernel the checks that it does not make and how often one of them decided."""
    total = sum(counts.total() for counts in AGREEMENT.values())
    if not total:
        return []
    lines = [f"verdict: {total} pairs of machines, {len(DISTINCT)} of them distinct, no contradiction"]
    for profile, counts in sorted(AGREEMENT.items()):
        alone = {what: number for what, number in counts.items() if what not in BOTH}
        text = ", ".join(f"{what} {counts[what]}" for what in BOTH)
        lines.append(
            f"  {profile}: {text}, refused by us alone {sum(alone.values())}, for what it does not check:"
        )
        checks: Counter[str] = Counter()
        for what, number in alone.items():
            checks.update(dict.fromkeys(what.split(" + "), number))
        lines += [f"    {number:5} {check}" for check, number in checks.most_common()]
    return lines


def test_verdict_and_kernel_agree() -> None:
    number = min(PAIRS, int(os.environ.get("VERDICT_PAIRS", PAIRS)))
    for seed in range(number):
        pair = draw(seed)
        found, said, log = ask(pair)
        try:
            what = judge(pair, found, said)
            compare_words(pair, found, log)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}; kernel log {log}") from None
        AGREEMENT.setdefault(pair.source.profile, Counter())[what] += 1
        DISTINCT.add(pair)


@pytest.mark.parametrize("profile", PROFILES)
def test_they_agree_on_a_matrix_that_its_file_cannot_show(profile: str) -> None:
    """With 512 queues ``matrix`` and ``guest_matrix`` are truncated (V-12); the guest is told by its queues."""
    wide = Matrix.parse("5,6", "0-255", "4")
    source = Side(profile, "0000000000000001", usage="0-255", device=wide, guest=True)
    target = replace(source, sequence="0000000000000002", guest=False)
    pair = Pair(source, target, wanted=wide)
    found, said, _ = ask(pair)
    assert (found.mode, said) == (Mode.LIVE, "")
    filtered = replace(pair, target=replace(target, away=(("06.00ab", "nobody"),)))
    found, said, _ = ask(filtered)
    assert judge(filtered, found, said) == "both no"
    assert found.refusals[0].reason == "DeviceFailed"
    assert "06.00ab" in found.refusals[0].message
