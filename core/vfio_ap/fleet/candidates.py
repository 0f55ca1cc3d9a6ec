"""Which nodes could take a VM's pod, the best first, and why each of the others cannot.

What the scheduler judges better, resources and volumes, is left to it. Whether a running guest may move between
two nodes is the verdict's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.shape import shape_for
from vfio_ap.fleet.verdict import GuestFacts, Mode, MovePolicy, keys_at_start, verdict
from vfio_ap.fleet.views import MatrixView, NodeView

_ANY_GUEST = GuestFacts()
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
    mode: str = ""
    """The preferred way to move there of those that were asked about, empty when none is or nothing moves."""
    lacking: int = 0
    """Queues of the matrix that a VM which starts there would not have: the machine does not give them yet."""
    warnings: tuple[str, ...] = ()
    """What to know although it does not stand in the way."""


def candidates(
    matrix: MatrixView,
    pod: PodView,
    placed: Collection[str],
    nodes: Mapping[str, NodeView],
    policy: PolicyView,
    tired: Collection[str] = (),
    guest: GuestFacts = _ANY_GUEST,
    ways: Collection[Mode] = (Mode.LIVE,),
) -> list[Answer]:
    """Return an answer for each node: those that could come first, the best of them first, then by name.

    ``placed`` are the nodes that the VM runs on. ``tired`` are nodes that were asked and did not get ready in
    time; they are taken again only when no other is left. ``ways`` are the modes that whoever asks can carry out.
    """
    sources = [nodes.get(name) for name in sorted(placed)]
    found = []
    for node in nodes.values():
        held = node.mdevs.get(matrix.uuid)
        there = Refusal("RunsThere", node.name, "the VM runs there now") if node.name in placed else None
        answer = Answer(node.name, there or _excluded(matrix, pod, node), held is not None)
        if answer.refusal is None and pod.target:
            answer = _moving(matrix, answer, sources, node, policy, guest, ways)
        elif answer.refusal is None:
            answer = _starting(answer, matrix, node, policy)
        found.append(answer)
    rank: dict[str, int] = {mode: number for number, mode in enumerate(policy.modes)}
    return sorted(
        found,
        key=lambda a: (
            a.refusal is not None,
            a.node in tired,
            rank.get(a.mode, 0),
            a.lacking,
            not a.holds,
            len(a.warnings),
            a.node,
        ),
    )


def _starting(answer: Answer, matrix: MatrixView, node: NodeView, policy: PolicyView) -> Answer:
    """Return the answer for a node that a VM would start on: it may lack ids yet, or keys that are expected."""
    whole = matrix.on(node)
    if not node.gives(whole):
        answer = replace(answer, lacking=len(whole) - len(whole.overlap(node.present)))
    if not matrix.expected or policy.master_keys == "Ignore":
        return answer
    said = [item.refusal for item in keys_at_start(matrix, node)]
    if said and policy.master_keys == "Require":
        return replace(answer, refusal=said[0])
    return replace(answer, warnings=tuple(map(str, said)))


def _moving(
    matrix: MatrixView,
    answer: Answer,
    sources: Sequence[NodeView | None],
    node: NodeView,
    policy: PolicyView,
    guest: GuestFacts,
    ways: Collection[Mode],
) -> Answer:
    """Return the answer for a node that a running guest would move to, from where it runs."""
    held = node.mdevs.get(matrix.uuid)
    rules = MovePolicy(tuple(Mode(mode) for mode in policy.modes), policy.adapter_type, policy.master_keys)
    for source in sources:
        if source is None:
            return replace(
                answer, refusal=Refusal("SourceUnknown", "", "nothing is known of the node that the VM runs on")
            )
        shall = shape_for(matrix, source, node) or matrix.on(node)
        # What was made for another purpose is made anew for this one, so it is not what the answer rests on.
        made = held is not None and held.state == "Ready" and held.configuration == shall
        found = verdict(matrix, source, node, rules, guest, prepared=made)
        mode = next((mode for mode in found.modes if mode in ways), None)
        answer = replace(
            answer,
            mode=mode.value if mode is not None else "",
            warnings=tuple(str(warning) for warning in found.warnings),
        )
        if mode is None:
            closed = Refusal(
                "ModeNotAllowed",
                node.name,
                f"its policy allows {' and '.join(policy.modes)} only",
                "change its modes",
            )
            return replace(answer, refusal=found.refusals[0] if found.refusals else closed)
    return answer


def _excluded(matrix: MatrixView, pod: PodView, node: NodeView) -> Refusal | None:
    if not matrix.selects(node.labels):
        return Refusal("NotSelected", node.name, "spec.nodeSelector of the matrix excludes it")
    here = matrix.on(node)
    for found in (node.no_answer(), node.limit_exceeded(here), node.absent(here)):
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
