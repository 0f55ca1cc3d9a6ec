"""The page of ``kubectl ap check``."""

from __future__ import annotations

from vfio_ap.errors import Refusal
from vfio_ap_cli.pages import out
from vfio_ap_cli.questions.check import CheckAnswer, NodeAnswer

_BY_HAND = (
    "by hand: it would work, and the operator does not do it: Reattach is not carried out, a mode that the policy "
    "does not allow neither, nor a restart of a VMI that no VirtualMachine owns"
)
_COLUMNS = ("NODE", "ANSWER", "MODE", "WHY")


def page(answer: CheckAnswer, *, every: bool = False) -> list[str]:
    """Return the VM, what keeps it from moving, and each node; ``every`` shows all reasons, not only the first."""
    rules = f"{', '.join(mode.value for mode in answer.modes)}; adapters {answer.adapter_type}; "
    rules += f"master keys {answer.master_keys}"
    parts = [
        out.facts(
            (
                ("VM", f"{answer.vm}, {'runs on ' + answer.source if answer.source else 'does not run'}"),
                ("matrix", f"{answer.matrix}, {answer.queues}"),
                ("policy", f"{answer.policy or 'none, so the defaults'}: {rules}"),
            )
        )
    ]
    parts += ["\n".join(["", *out.folded(f"{refusal.reason}: {refusal}")]) for refusal in answer.obstacles]
    if not answer.nodes:
        return [*parts, "\nno node to look at"]
    rows = [row for node in answer.nodes for row in _rows(node, every=every)]
    parts.append("\napart from that:\n" if answer.obstacles else "")
    parts.append(("" if answer.obstacles else "\n") + out.table(_COLUMNS, rows, sentence=True))
    if any(node.answer == "by hand" for node in answer.nodes):
        parts.append("\n" + "\n".join(out.folded(_BY_HAND)))
    return parts


def _rows(node: NodeAnswer, *, every: bool) -> list[tuple[str, str, str, str]]:
    """Return a line with the first reason, and where there are more a line for each or their number."""
    mode = ", ".join(mode.value for mode in node.modes) or "-"
    texts = [_text(refusal) for refusal in node.refusals]
    texts += [f"warning: {_text(warning)}" for warning in node.warnings]
    if not texts and node.can and not node.prepared:
        texts = ["its device is made once it is asked for"] if every else []
    first, *more = texts or [""]
    if more and not every:
        first += f" (and {len(more)} more: --node {node.node})"
        more = []
    return [(node.node, node.answer, mode, first), *(("", "", "", text) for text in more)]


def _text(refusal: Refusal) -> str:
    return f"{refusal.reason}: {refusal}"
