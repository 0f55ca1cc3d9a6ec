"""Which nodes could take a VM's pod, the best first, and why each of the others cannot.

What the scheduler judges better, resources and volumes, is left to it. Whether a running guest may move between
two nodes is the verdict's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.verdict import Mode, MovePolicy, verdict
from vfio_ap.fleet.views import MatrixView, NodeView

_SHOWN = 5
"""Nodes named in a message; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one node could take the pod."""

    node: str
    refusal: Refusal | None = None
    """Why not; None when it could."""
    holds: bool = False
    """It has the device already."""


def candidates(
    matrix: MatrixView,
    pod: PodView,
    placed: Collection[str],
    nodes: Mapping[str, NodeView],
    policy: PolicyView,
    tired: Collection[str] = (),
) -> list[Answer]:
    """Return an answer for each node: those that could come first, the best of them first, then by name.

    ``placed`` are the nodes that the VM runs on. ``tired`` are nodes that were asked and did not get ready in
    time; they are taken again only when no other is left.
    """
    found = [_answer(matrix, pod, placed, node, nodes, policy) for node in nodes.values()]
    return sorted(found, key=lambda a: (a.refusal is not None, a.node in tired, not a.holds, a.node))


def _answer(
    matrix: MatrixView,
    pod: PodView,
    placed: Collection[str],
    node: NodeView,
    nodes: Mapping[str, NodeView],
    policy: PolicyView,
) -> Answer:
    held = node.mdevs.get(matrix.uuid)
    refusal = _excluded(matrix, pod, node)
    if refusal is None and pod.target:
        made = held is not None and held.state == "Ready"
        refusal = immovable(matrix, placed, node, nodes, policy, prepared=made)
    return Answer(node.name, refusal, held is not None)


def immovable(
    matrix: MatrixView,
    placed: Collection[str],
    node: NodeView,
    nodes: Mapping[str, NodeView],
    policy: PolicyView,
    *,
    prepared: bool,
) -> Refusal | None:
    """Return why a guest that runs on the placed nodes cannot move live to this one, None if it can."""
    live = MovePolicy((Mode.LIVE,), policy.adapter_type, policy.master_keys)
    if node.name in placed:
        return Refusal("RunsThere", node.name, "the VM runs there now")
    for name in sorted(placed):
        source = nodes.get(name)
        if source is None:
            return Refusal("SourceUnknown", name, "the VM runs there, and nothing is known of the node")
        found = verdict(matrix, source, node, live, prepared=prepared)
        if found.mode is None:
            return found.refusals[0]
    return None


def _excluded(matrix: MatrixView, pod: PodView, node: NodeView) -> Refusal | None:
    if not matrix.selects(node.labels):
        return Refusal("NotSelected", node.name, "spec.nodeSelector of the matrix excludes it")
    if not node.alive:
        return Refusal("NodeSilent", node.name, "the node or its agent does not answer")
    here = matrix.on(node)
    for found in (node.limit_exceeded(here), node.absent(here)):
        if found is not None:
            return found
    held = node.mdevs.get(matrix.uuid)
    if held is not None and held.in_use and held.state != "Foreign":
        return Refusal("DeviceInUse", node.name, held.message or "a guest there uses the device")
    if held is not None and held.state in ("Failed", "Incomplete", "Foreign"):
        return Refusal(held.reason or "DeviceFailed", node.name, held.message or f"its device is {held.state}")
    text = pod.constraints.refusal(node.name, node.labels, node.taints)
    return Refusal("NotSchedulable", node.name, text) if text else None


def nowhere(reason: str, subject: str, answers: Sequence[Answer], remedy: str) -> Refusal:
    """Return the refusal that lists why no node can take the pod; the subject is the matrix or the VM."""
    reasons = [f"{a.node}: {_short(a)}" for a in answers if a.refusal is not None]
    shown = "; ".join(reasons[:_SHOWN]) or "no other node has an AP bus"
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return Refusal(reason, subject, f"no node can take it: {shown}{more}", remedy)


def _short(answer: Answer) -> str:
    """Return a node's reason, without naming the node twice."""
    assert answer.refusal is not None
    return answer.refusal.message if answer.refusal.subject == answer.node else str(answer.refusal)
