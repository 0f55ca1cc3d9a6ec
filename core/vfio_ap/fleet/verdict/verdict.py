"""The verdict: whether a VM with a matrix can move from one node to another, in which modes, and why not.

A pure function of two nodes' snapshots, the matrix and the policy; it decides nothing else and starts nothing.
It is the kernel's own table (``attributes.py``, ``passage.py``) under the semantics that both kernels were probed
to have, and what no kernel checks (``target.py``, ``keys.py``). Unknown is never yes. Reasons come in the order of
``reasons.Reason``, so that the first is the one to mend first; there it is also said which modes a reason closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vfio_ap.errors import Refusal
from vfio_ap.fleet.verdict.keys import keys
from vfio_ap.fleet.verdict.passage import arrives, can_migrate, hardware, what_moves
from vfio_ap.fleet.verdict.question import Question, Said, say
from vfio_ap.fleet.verdict.reasons import RANK, Reason
from vfio_ap.fleet.verdict.target import adapters_work, device, on_target, taken
from vfio_ap.fleet.verdict.types import GuestFacts, Mode, MovePolicy, MoveVerdict
from vfio_ap.fleet.views import MatrixView, NodeView

_BY_POLICY = frozenset({Reason.KeysDiffer, Reason.KeysUnexpected, Reason.KeysUnknown, Reason.OpModesUnknown})
"""Refused under ``Require``, warned of under ``Warn``."""
_NO_POLICY, _NO_FACTS = MovePolicy(), GuestFacts()


def verdict(
    matrix: MatrixView,
    source: NodeView,
    target: NodeView,
    policy: MovePolicy = _NO_POLICY,
    guest: GuestFacts = _NO_FACTS,
    *,
    others: Iterable[MatrixView] = (),
    prepared: bool = True,
) -> MoveVerdict:
    """Return whether the VM with this matrix, which runs on ``source``, can move to ``target``.

    ``others`` are matrices that have, or are about to have, devices on the target. ``prepared`` says that the
    target has made the device, and that the answer shall rest on it. Which version of live migration a kernel has
    shows only on a device (the attribute ``migratable`` is that of the first), so a target that is not prepared
    may be unknown in that; it must be asked about again, prepared, before the move begins.
    """
    said = list(_beyond_knowing(matrix, source, target))
    if not said:
        question = Question(matrix, source, target, policy, guest, prepared)
        said = [*_answers(question, others)]
    strict = policy.master_keys == "Require"
    hard = [item for item in said if not (item.mild or (item.reason in _BY_POLICY and not strict))]
    closed = frozenset[Mode]().union(*(item.reason.closes for item in hard))
    modes = tuple(mode for mode in policy.modes if mode not in closed)
    refusals = _ranked(item for item in hard if not item.reason.closes.isdisjoint(policy.modes))
    if not modes:
        refusals += _other_modes(matrix, policy, closed)
    return MoveVerdict(target.name, modes, refusals, _ranked(item for item in said if item not in hard))


def _answers(question: Question, others: Iterable[MatrixView]) -> Iterator[Said]:
    for ask in (on_target, device, adapters_work, can_migrate, what_moves, arrives, hardware, keys):
        yield from ask(question)
    yield from taken(question, others)


def _ranked(said: Iterable[Said]) -> tuple[Refusal, ...]:
    return tuple(item.refusal for item in sorted(said, key=lambda item: RANK[item.reason]))


def _other_modes(matrix: MatrixView, policy: MovePolicy, closed: frozenset[Mode]) -> tuple[Refusal, ...]:
    """Say which mode would be open if the policy allowed it."""
    open_ones = [mode.value for mode in Mode if mode not in closed and mode not in policy.modes]
    if not open_ones:
        return ()
    return (Reason.ModeNotAllowed.refuse(matrix.name, f"could move by {' or '.join(open_ones)}"),)


def _beyond_knowing(matrix: MatrixView, source: NodeView, target: NodeView) -> Iterator[Said]:
    """Yield what makes every other question idle."""
    if matrix.invalid is not None:
        yield say(Reason.MatrixRefused, matrix.name, matrix.invalid.message)
    elif matrix.deleting or not matrix.uuid:
        text = "is being deleted" if matrix.deleting else "has no UUID yet"
        yield say(Reason.MatrixRefused, matrix.name, text)
    if source.name == target.name:
        yield say(Reason.RunsThere, target.name, "the VM runs there now")
        return
    for node in (target, source):
        if not node.alive:
            yield say(Reason.NodeSilent, node.name, "the node or its agent does not answer")
        elif node.unready is not None:
            yield say(Reason.NodeNotReady, node.name, f"is not ready: {node.unready.message}")
        elif not node.reported:
            yield say(Reason.NotReported, node.name, "its agent has not reported yet")
