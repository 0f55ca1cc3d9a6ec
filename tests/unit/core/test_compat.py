"""Which moves the kernel's table allows, row by row (kernel-ap.md 4.3)."""

import dataclasses

import pytest

from vfio_ap.fleet.compat import refusal_of_move
from vfio_ap.fleet.views import Card, NodeView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

MATRIX = Matrix(IdSet.of(5), IdSet.of(4), IdSet.of(4))
WORD = 0x93800000  # APSC, CCA, APXA, command filtering, full
EVERY = Matrix(IdSet.every(), IdSet.every(), IdSet.every())
SOURCE = NodeView("a", present=EVERY, cards={5: Card("CEX7C", WORD)}, live="v4")
TARGET = dataclasses.replace(SOURCE, name="b")


def with_card(node, functions=WORD, kind="CEX7C"):
    return dataclasses.replace(node, cards={5: Card(kind, functions)})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (SOURCE, TARGET),
        (SOURCE, with_card(TARGET, kind="CEX8C")),
        (with_card(SOURCE, WORD & ~0x00800000 | 0x00400000), TARGET),
    ],
)
def test_equal_or_better_is_fine(source, target):
    assert refusal_of_move(MATRIX, source, target) is None


@pytest.mark.parametrize("bit", [0x80000000, 0x40000000, 0x20000000, 0x02000000, 0x01000000])
def test_each_facility_must_be_equal_both_ways(bit):
    for one, other in ((WORD, WORD ^ bit), (WORD ^ bit, WORD)):
        refusal = refusal_of_move(MATRIX, with_card(SOURCE, one), with_card(TARGET, other))
        assert refusal is not None
        assert refusal.subject == "queue 05.0004"
        assert "installed on a" in refusal.message


@pytest.mark.parametrize(
    ("source", "target", "reason", "words"),
    [
        (SOURCE, with_card(TARGET, 0x87800000, "CEX7P"), "HardwareDiffers", "mode: CCA on a, EP11 on b"),
        (
            SOURCE,
            with_card(TARGET, WORD & ~0x00800000 | 0x00400000),
            "HardwareDiffers",
            "class: full on a, stateless on b",
        ),
        (with_card(SOURCE, kind="CEX8C"), TARGET, "HardwareDiffers", "CEX8C on a, CEX7C on b"),
        (SOURCE, with_card(TARGET, kind=""), "HardwareDiffers", "unknown on b"),
        (SOURCE, with_card(TARGET, None), "HardwareUnknown", "on b is not known"),
        (with_card(SOURCE, None), TARGET, "HardwareUnknown", "on a is not known"),
        (dataclasses.replace(SOURCE, live="no"), TARGET, "KernelCannotMigrate", "LIVE is no"),
        (SOURCE, dataclasses.replace(TARGET, live="unknown"), "KernelCannotMigrate", "LIVE is unknown"),
        (
            SOURCE,
            dataclasses.replace(TARGET, present=Matrix(IdSet.every(), IdSet.every(), IdSet.of(6))),
            "ControlDomainAbsent",
            "no control domains 4",
        ),
    ],
)
def test_every_no_names_both_values(source, target, reason, words):
    refusal = refusal_of_move(MATRIX, source, target)
    assert refusal is not None
    assert refusal.reason == reason
    assert words in refusal.message
    assert refusal.remedy
