"""The page of ``kubectl ap plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from vfio_ap_cli.pages import out
from vfio_ap_cli.questions.plan import MaskEffect, NodeChange, PlanAnswer

_SHOWN = 8
"""Nodes named in a row."""
_SIGNS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red"), "would add": ("?", "cyan")}


def page(answer: PlanAnswer) -> list[str]:
    """Return what would change: the objects, then each node, then what stands in the way."""
    parts = []
    for item in answer.objects:
        head = f"{item.object}  {item.verb}" + (f"  UUID {item.uuid}" if item.uuid else "")
        lines = [head, *(f"  {note}" for note in item.notes)]
        if item.refusal is not None:
            lines += _refusal(f"{item.refusal.reason}: {item.refusal}")
        parts.append("\n".join(lines))
    if answer.guard is not None:
        parts.append("\n".join(["\nthe operator provisions nothing now", *_refusal(str(answer.guard))]))
    alike: dict[NodeChange, list[str]] = {}
    for node in answer.nodes:
        alike.setdefault(replace(node, node=""), []).append(node.node)
    parts += [_node(change, names) for change, names in alike.items()]
    parts += ["\n".join(["", *_refusal(f"{wait.reason}: {wait}")]) for wait in answer.waits]
    if answer.same:
        parts.append("\n" + "\n".join(out.folded(f"nothing changes on {_listed(answer.same)}")))
    if answer.strangers:
        parts.append("\n".join(out.folded(f"not looked at: {', '.join(answer.strangers)}")))
    verdict = "something would be refused" if answer.refused else "all of it would be accepted"
    parts.append(f"\n{verdict}; nothing was written")
    return parts


def _node(node: NodeChange, names: Sequence[str]) -> str:
    """Return what changes on nodes that are alike in it."""
    lines = [out.heading(f"node{'s' * (len(names) > 1)} {_listed(names)}")]
    name = max((len(d.matrix) for d in node.devices), default=0)
    for device in node.devices:
        sign, colour = _SIGNS[device.verb]
        text = (
            device.then if not device.now else device.now if not device.then else f"{device.now} -> {device.then}"
        )
        more = "  when a VM asks for it" if device.verb == "would add" else ""
        more += f"  used by {device.used_by}" if device.used_by else ""
        first, *rest = out.folded(f"{text}{more}", name + 6)
        lines += [f"  {click.style(sign, fg=colour)} {device.matrix.ljust(name)}  {first.strip()}", *rest]
    if node.masks is not None:
        lines += out.folded(_masks(node.masks), 4)
    for refusal in node.refusals:
        lines += _refusal(f"{refusal.reason}: {refusal}")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _masks(effect: MaskEffect) -> str:
    if effect.by_override:
        return f"{_moved(effect.leave)}, one by one: the node works by driver_override"
    text = _moved(effect.leave)
    if effect.along:
        bound = (
            "no masks release fewer" if effect.exact else f"no masks release fewer than {effect.at_least} in all"
        )
        queues = "queue that no matrix wants is" if effect.along == 1 else "queues that no matrix wants are"
        text += f"; {effect.along} {queues} off the host then ({bound}): {effect.queues}"
    return text


def _moved(number: int) -> str:
    if not number:
        return "no queue leaves the host or comes back"
    queues = "1 queue" if abs(number) == 1 else f"{abs(number)} queues"
    one = abs(number) == 1
    return (
        f"{queues} leave{'s' if one else ''} the host" if number > 0 else f"{queues} come{'s' if one else ''} back"
    )


def _refusal(text: str) -> list[str]:
    first, *more = out.folded(text, 11)
    return [f"  {click.style('refused', fg='red')}  {first.strip()}", *more]
