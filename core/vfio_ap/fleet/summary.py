"""How an APMatrix stands as a whole: the words of its printer columns and its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import GatePlan
from vfio_ap.fleet.placement import Standing
from vfio_ap.fleet.views import MatrixView, Placement


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition without its bookkeeping: type, status, reason, message."""

    type: str
    status: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a matrix stands."""

    state: str
    """One word, with the reason in parentheses where there is one."""
    good: int
    """Nodes that have it, or could have it when it is made on demand."""
    chosen: int
    """Nodes that it is meant for."""
    used_by: str
    conditions: tuple[Verdict, ...]


def summarise(
    matrix: MatrixView, refusal: Refusal | None, standings: Sequence[Standing], available: int = 0
) -> Summary:
    """Return the summary of a matrix over its nodes, which come in the order of their names.

    ``available`` counts further nodes of which there is nothing to say but that they can have it.
    """
    fine = ("Ready", "Available") if matrix.placement is Placement.ON_DEMAND else ("Ready",)
    good = available + sum(standing.state in fine for standing in standings)
    chosen = available + len(standings)
    bad = next((s for s in standings if s.state == "Failed"), None)
    bad = bad or next((s for s in standings if s.state not in fine), None)
    used_by = ",".join(standing.node for standing in standings if standing.in_use)
    accepted = Verdict("Accepted", True, "Accepted", "")
    if refusal is not None:
        accepted = Verdict("Accepted", False, refusal.reason, f"{refusal.message}; {refusal.remedy}".rstrip("; "))
    ready = _ready(matrix, accepted, used_by, good, chosen, bad)
    word = _word(matrix, accepted, ready, bad, bool(used_by))
    return Summary(word, good, chosen, used_by, (accepted, ready))


def served(summary: Summary, plan: GatePlan, note: str = "") -> Summary:
    """Return the summary with what is said of the VMs that ask for the matrix: who has it, who waits for what.

    ``note`` is what else there is to know of the VM that has it.
    """
    if plan.waits:
        first = plan.waits[0]
        more = f" (and {len(plan.waits) - 1} more wait)" if len(plan.waits) > 1 else ""
        text = f"VM {first.pod.vm_name} waits: {first.refusal}{more}"
        word = Verdict("Served", False, first.refusal.reason, text)
    elif plan.user:
        text = f"VM {plan.user} has it or is being given it"
        word = Verdict("Served", True, "Served", f"{text}; {note}" if note else text)
    else:
        word = Verdict("Served", True, "Idle", "no VM asks for it")
    return replace(summary, used_by=plan.user or summary.used_by, conditions=(word, *summary.conditions))


def _ready(
    matrix: MatrixView, accepted: Verdict, used_by: str, good: int, chosen: int, bad: Standing | None
) -> Verdict:
    if matrix.deleting:
        if used_by:
            text = f"a guest on node {used_by} uses it; it goes once the guest has stopped"
            return Verdict("Ready", False, "DeletingInUse", text)
        return Verdict("Ready", False, "Deleting", "being taken off the nodes")
    if not accepted.status:
        return Verdict("Ready", False, accepted.reason, accepted.message)
    if not chosen:
        return Verdict("Ready", False, "NoNodes", "no node with an AP bus has the labels of spec.nodeSelector")
    enough = good > 0 if matrix.placement is Placement.ON_DEMAND else good == chosen
    if enough:
        verb = "can have it" if matrix.placement is Placement.ON_DEMAND else "have it"
        return Verdict("Ready", True, "Ready", f"{good} of {chosen} nodes {verb}")
    assert bad is not None, "a node that is not good is bad"
    return Verdict("Ready", False, bad.reason, f"node {bad.node}: {bad.message}" if bad.message else "")


def _word(matrix: MatrixView, accepted: Verdict, ready: Verdict, bad: Standing | None, in_use: bool) -> str:
    if matrix.deleting:
        return "Deleting (InUse)" if in_use else "Deleting"
    if not accepted.status:
        return f"Refused ({accepted.reason})"
    if ready.status:
        if bad is not None and bad.state in ("Failed", "Refused"):
            return f"Degraded ({bad.reason})"
        return "Ready"
    if bad is not None and bad.state in ("Failed", "Refused"):
        return f"Failed ({bad.reason})"
    return f"Pending ({ready.reason})"
