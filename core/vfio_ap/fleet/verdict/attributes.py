"""The kernel's own comparison of a queue of the source with one of the target (kernel-ap.md 4.3, L-10).

The kernel compares the words that TAPQ gives; their upper half is ``ap_functions``. All queues of an adapter have
the same word, bind state aside, so adapters are compared. The builds that exist compare less than the table says
(transcripts/migration, deviation 1); nothing here relies on them, or looks at anything but words and types.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.fleet.views import Card

_MODES = {0x10000000: "CCA", 0x08000000: "accelerator", 0x04000000: "EP11"}
_ALL_MODES = 0x1C000000
_FACILITIES = {
    0x80000000: "APSC",
    0x40000000: "4096-bit ME",
    0x20000000: "4096-bit CRT",
    0x02000000: "APXA",
    0x01000000: "command filtering",
}
_FULL, _STATELESS, _CLASS = 0x00800000, 0x00400000, 0x00FF0000
_NAMELESS = 0x00003FFF
"""Bits that only the first version compares, and only where its short-cut (L-10) does not apply."""
_TYPE = re.compile(r"CEX([0-9]+)")


class Semantics(enum.Enum):
    """What the kernel on the target does with a stream."""

    COMPARES = "v1"
    """The first version: the device there must have the same queues already."""
    TAKES_OVER = "v4"
    """Later versions: the device there becomes what the guest had."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, with both values."""

    reason: Reason
    what: str
    mine: str
    yours: str


@functools.lru_cache(maxsize=4096)
def differences(here: Card, there: Card, semantics: Semantics, *, same_type: bool) -> tuple[Difference, ...]:
    """Return what makes the target's adapter unfit for what runs on the source's, first the first to mend.

    Both ``functions`` must be known. ``same_type`` is a policy's: the kernel takes a newer adapter.
    """
    return tuple(_differences(here, there, semantics, same_type))


def _differences(here: Card, there: Card, semantics: Semantics, same_type: bool) -> Iterator[Difference]:
    assert here.functions is not None
    assert there.functions is not None
    mine, yours = here.functions, there.functions
    differing = mine ^ yours
    if differing & _ALL_MODES:
        yield Difference(Reason.ModeDiffers, "mode", mode_of(mine), mode_of(yours))
    for bit, name in _FACILITIES.items():
        if differing & bit:
            yield Difference(Reason.FacilityDiffers, name, _installed(mine & bit), _installed(yours & bit))
    old, new = generation(here.type), generation(there.type)
    if _class_lost(mine, yours) or (semantics is Semantics.COMPARES and differing & _CLASS):
        yield Difference(Reason.ClassDiffers, "class", _class(mine), _class(yours))
    if semantics is Semantics.COMPARES and old != new and differing & _NAMELESS:
        yield Difference(Reason.FacilityWordDiffers, "facility word", f"0x{mine:08X}", f"0x{yours:08X}")
    if old is None or new is None:
        yield Difference(Reason.HardwareUnknown, "adapter type", here.type or "unknown", there.type or "unknown")
    elif old > new:
        what = "adapter type (the same or newer is needed)"
        yield Difference(Reason.AdapterOlder, what, here.type, there.type)
    elif same_type and old != new:
        what = "adapter type (the policy wants the same)"
        yield Difference(Reason.AdapterTypeDiffers, what, here.type, there.type)


def mode_of(functions: int) -> str:
    """Return ``CCA``, ``EP11`` or ``accelerator``, several with ``+``, ``none`` for no mode bit."""
    return "+".join(name for bit, name in _MODES.items() if functions & bit) or "none"


def generation(kind: str) -> int | None:
    """Return 8 for ``CEX8C``; None for a text that is no adapter's type."""
    match = _TYPE.match(kind)
    return int(match[1]) if match else None


def _class_lost(mine: int, yours: int) -> bool:
    """Whether the source has full function and the target has not; neither bit counts as stateless."""
    return bool(mine & _FULL) and not yours & _FULL


def _installed(bit: int) -> str:
    return "installed" if bit else "not installed"


def _class(functions: int) -> str:
    name = "full" if functions & _FULL else "stateless" if functions & _STATELESS else "none"
    rest = functions & _CLASS & ~(_FULL | _STATELESS)
    return f"{name} (0x{functions >> 16 & 0xFF:02X})" if rest else name
