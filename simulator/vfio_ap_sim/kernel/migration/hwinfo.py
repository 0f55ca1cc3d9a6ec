"""Whether a queue of the target can stand in for a queue of the source (kernel-ap.md 4.3, L-10).

Both are given as the word that TAPQ returns (``ap.h:struct ap_tapq_hwinfo``): the ``ap_functions`` of 1.5 in the
upper half, then AP type, highest domain, message length and depth. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vfio_ap_sim.kernel.devices import queue_name

_COMPARED = 0xFFFFC000FF000000
"""Facilities, mode, class, bind state and AP type (``QINFO_DATA_MASK``)."""
_BIND_SHIFT, _TYPE_SHIFT, _FACILITY_SHIFT = 46, 24, 32
_NATIVE = 1 << 55


@dataclass(frozen=True, slots=True)
class Feature:
    """One bit that must be equal on both sides, and how each series words it in the log."""

    bit: int
    name: str
    yes: str = "installed"
    old_source: str = "in source"
    old_target: str = "in target"
    old_name: str | None = None
    """As the first version spells it before ``target``; None when no differently."""


_FEATURES = (
    Feature(63, "APSC facility"),
    Feature(62, "mex4k facility"),
    Feature(61, "crt4k facility"),
    Feature(60, "Coprocessor-mode facility", old_target="target", old_name="Coprocessor-mode  facility"),
    Feature(59, "Accelerator-mode facility", old_source="source", old_target="target"),
    Feature(58, "XCP-mode facility", old_source="source", old_target="target"),
    Feature(57, "AP-extended-addressing (APXA) facility"),
    Feature(56, "Stateless-command-filtering (SLCF)", yes="available"),
)


def bind_state(word: int) -> int:
    """Return the bind and associate state, 0 when the queue is usable."""
    return word >> _BIND_SHIFT & 3


def ap_type(word: int) -> int:
    """Return the AP type, 14 for a CEX8."""
    return word >> _TYPE_SHIFT & 0xFF


def _class_lost(source: int, target: int) -> bool:
    """Whether the source has full native function and the target has not (F to R)."""
    return bool(source & _NATIVE) and not target & _NATIVE


def compatible(source: int, target: int) -> bool:
    """Whether the later series accept a pair (``queue_hardware_info_is_compatible``)."""
    if bind_state(source) or bind_state(target):
        return False
    if source & _COMPARED == target & _COMPARED:
        return True
    differing = source ^ target
    equal = not any(differing >> feature.bit & 1 for feature in _FEATURES)
    return equal and ap_type(source) <= ap_type(target) and not _class_lost(source, target)


def compatible_v1(source: int, target: int) -> bool:
    """Whether the first version accepts a pair: the whole facility word must be equal (``qinfo_compatible``)."""
    if source & _COMPARED == target & _COMPARED:
        return True
    return source >> _FACILITY_SHIFT == target >> _FACILITY_SHIFT and ap_type(source) <= ap_type(target)


def complaints(apqn: int, source: int, target: int) -> Iterator[tuple[str, str, str]]:
    """Yield function, call site and log line for a pair that the later series refuse.

    The call site tells lines of one function apart that are rate limited on their own.
    """
    queue = queue_name(apqn)
    yield (
        "report_qinfo_incompatibilities",
        "",
        f"Migration failed: Source and target queue ({queue}) not compatible",
    )
    for feature in _FEATURES:
        if (source ^ target) >> feature.bit & 1:
            function = _function_of(feature)
            for side, word in (("source", source), ("target", target)):
                what = f"{feature.name} {'' if word >> feature.bit & 1 else 'not '}{feature.yes} in {side} queue"
                yield function, what, f"{what} {queue}"
    if ap_type(source) > ap_type(target):
        yield "report_aptype_compatibility", "", _type_line(source, target)
    if bind_state(source) or bind_state(target):
        yield "report_bs_compatibility", "", f"{_bind_text(source, target, queue)} must be 0"
    if _class_lost(source, target):
        for line in _CLASS_LINES:
            yield "report_class_compatibility", line, f"{line} {queue}"


def complaints_v1(apqn: int, source: int, target: int) -> Iterator[str]:
    """Yield the log lines of the first version for a pair that it refuses."""
    queue = queue_name(apqn)
    yield f"Migration failed: Source and target queue ({queue}) not compatible"
    for feature in _FEATURES:
        if (source ^ target) >> feature.bit & 1:
            has, hers = source >> feature.bit & 1, target >> feature.bit & 1
            yield f"{feature.name} {'' if has else 'not '}{feature.yes} {feature.old_source} queue {queue}"
            name = feature.old_name or feature.name
            yield f"{name} {'' if hers else 'not '}{feature.yes} {feature.old_target} queue {queue}"
    if _class_lost(source, target):
        yield from (f"{line} {queue}" for line in _CLASS_LINES)
    yield _type_line(source, target)
    if bind_state(source) or bind_state(target):
        yield f"{_bind_text(source, target, queue)} are not compatible"


_CLASS_LINES = (
    "Full native card function available on source queue",
    "Only stateless functions available on target queue",
)


def _type_line(source: int, target: int) -> str:
    return f"AP type of source ({ap_type(source):02x}) not compatible with target ({ap_type(target):02x})"


def _bind_text(source: int, target: int, queue: str) -> str:
    states = f"source ({bind_state(source):x}) and target ({bind_state(target):x})"
    return f"Bind/associate state for {states} queue {queue}"


def _function_of(feature: Feature) -> str:
    """Return the kernel function that reports a feature; suppressed lines are told under its name."""
    if feature.bit > 60:
        return "report_facilities_compatibility"
    if feature.bit > 57:
        return "report_mode_compatibility"
    return "report_apxa_compatibility" if feature.bit == 57 else "report_slcf_compatibility"
