"""Whether a running guest's queues may move from one node to another, by the kernel's own table.

The kernel compares per queue what TAPQ says of its card (kernel-ap.md 4.3); the builds that exist compare less
than they should, so the verdict stands on ``ap_functions`` of both sides. All queues of a card have the same word,
bind state aside, so one comparison per adapter is enough. Unknown is never yes.
"""

from __future__ import annotations

import re

from vfio_ap.errors import Refusal
from vfio_ap.fleet.views import Card, NodeView
from vfio_ap.matrix import Apqn, Matrix

_MODES = {0x10000000: "CCA", 0x08000000: "accelerator", 0x04000000: "EP11"}
_FACILITIES = {
    0x80000000: "APSC",
    0x40000000: "4096-bit ME",
    0x20000000: "4096-bit CRT",
    0x02000000: "APXA",
    0x01000000: "command filtering",
}
_FULL, _STATELESS = 0x00800000, 0x00400000
_TYPE = re.compile(r"CEX([0-9]+)")


def refusal_of_move(
    matrix: Matrix, source: NodeView, target: NodeView, *, prepared: bool = True
) -> Refusal | None:
    """Return why a guest with this matrix cannot move live between the nodes; the first reason to mend first.

    Which version of live migration a kernel has shows on a mediated device only (its attribute ``migratable`` is
    that of the first). A target that is not ``prepared`` has none and may be unknown in that; it must not be let
    go before it is asked again with its device.
    """
    for node in (source, target):
        if node.live == "unknown" and node is target and not prepared:
            continue
        if node.live != "v4":
            return Refusal(
                "KernelCannotMigrate",
                node.name,
                f"its kernel cannot migrate vfio_ap devices (LIVE is {node.live})",
                "use a kernel whose matrix device has the feature migratable, or restart the VM elsewhere",
            )
    lacking = matrix.control_domains - target.present.control_domains
    if lacking:
        return Refusal(
            "ControlDomainAbsent", target.name, f"has no control domains {lacking}", "assign them to the LPAR"
        )
    for adapter in matrix.adapters:
        queue = str(Apqn(adapter, next(iter(matrix.domains))))
        here, there = source.cards.get(adapter), target.cards.get(adapter)
        if here is None or there is None or here.functions is None or there.functions is None:
            where = source.name if here is None or here.functions is None else target.name
            text = f"its hardware on {where} is not known"
            return Refusal("HardwareUnknown", f"queue {queue}", text, "look at the APNode, and at its agent")
        found = _differs(here, there)
        if found:
            what, mine, yours = found
            text = f"{what}: {mine} on {source.name}, {yours} on {target.name}"
            return Refusal("HardwareDiffers", f"queue {queue}", text, "move to a node with an equal adapter")
    return None


def _differs(here: Card, there: Card) -> tuple[str, str, str] | None:
    """Return what differs and both values, in the order in which a reader should mend it."""
    assert here.functions is not None
    assert there.functions is not None
    mine, yours = _mode(here.functions), _mode(there.functions)
    if mine != yours:
        return "mode", mine, yours
    for bit, name in _FACILITIES.items():
        if (here.functions ^ there.functions) & bit:
            words = ("installed", "not installed")
            return name, words[not here.functions & bit], words[not there.functions & bit]
    mine, yours = _class(here.functions), _class(there.functions)
    if mine != yours and not (mine == "stateless" and yours == "full"):
        return "class", mine, yours
    old, new = _generation(here.type), _generation(there.type)
    if old is None or new is None or old > new:
        return "adapter type (the same or newer is needed)", here.type or "unknown", there.type or "unknown"
    return None


def _mode(functions: int) -> str:
    return next((name for bit, name in _MODES.items() if functions & bit), "none")


def _class(functions: int) -> str:
    return "full" if functions & _FULL else "stateless" if functions & _STATELESS else "none"


def _generation(kind: str) -> int | None:
    match = _TYPE.match(kind)
    return int(match[1]) if match else None
