"""Master keys and EP11 operation modes of both sides. No kernel compares them.

A guest's keys are wrapped with the master key in a current (CUR) register: it must be the same on the target. New
and old registers tell of a key change under way. What cannot be read while a guest has the queue was read before,
or is attested by an administrator (Q-15 to Q-17, C-15).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

from vfio_ap.fleet.verdict.findings import Findings
from vfio_ap.fleet.verdict.question import Question, Said, lowest
from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.fleet.views import KeySet, KeyUse, MatrixView, NodeView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn

_CCA, _EP11 = 0x10000000, 0x04000000
_CURRENT = {_CCA: ("AES CUR", "APKA CUR", "ASYM CUR"), _EP11: ("WK CUR",)}
"""Registers that hold what the guest's keys are wrapped with, by mode. Accelerators hold none (C-17)."""
Side = tuple[NodeView, KeyUse]


def keys(q: Question) -> Iterator[Said]:
    """What speaks against the keys and modes of the target's queues."""
    found, asked = Findings(), q.policy.master_keys
    if asked != "Ignore":
        if q.alike:
            _queue_by_queue(found, q)
        else:
            _set_by_set(found, q)
    if q.alike:
        _op_modes(found, q)
    for item in found.said():
        if item.reason is Reason.KeysSampled and asked != "Require":
            continue
        if item.reason is Reason.OpModesUnknown and asked == "Ignore":
            continue
        yield item


def keys_at_start(matrix: MatrixView, node: NodeView) -> Iterator[Said]:
    """What speaks against the keys of a node on which a VM starts: only what the matrix expects counts there."""
    found, here = Findings(), matrix.on(node)
    domains = here.domains & node.present.domains
    for adapter in here.adapters & node.present.adapters if matrix.expected and domains else ():
        registers, uses = _current_registers(node, adapter), node.keys.get(adapter, ())
        if registers and (unknown := _uncovered(domains, uses)):
            text = f"master keys on {node.name} are not known"
            found.add(Reason.KeysUnknown, Apqn(adapter, lowest(unknown)), text, len(unknown))
        for use in uses if registers else ():
            if common := use.domains & domains:
                _expected(found, matrix, node, adapter, common, use, registers)
    yield from found.said()


def _queue_by_queue(found: Findings, q: Question) -> None:
    """Compare each queue of the target with the expected keys and, for the rest, with the source's queue."""
    domains = q.needed.domains
    for adapter in q.needed.adapters:
        registers = _current_registers(q.target, adapter)
        if not registers:
            continue
        rest = _unexpected(registers, q)
        mine, yours = q.source.keys.get(adapter, ()), q.target.keys.get(adapter, ())
        for node, uses, asked in ((q.source, mine, rest), (q.target, yours, registers)):
            if asked and (unknown := _uncovered(domains, uses)):
                text = f"master keys on {node.name} are not known"
                found.add(Reason.KeysUnknown, Apqn(adapter, lowest(unknown)), text, len(unknown))
        for there in yours:
            if (common := there.domains & domains) and q.matrix.expected:
                _expected(found, q.matrix, q.target, adapter, common, there, registers)
            for here in mine if rest else ():
                if both := common & here.domains:
                    _pair(found, Apqn(adapter, lowest(both)), len(both), (q.source, here), (q.target, there), rest)


def _set_by_set(found: Findings, q: Question) -> None:
    """Compare where a variant gives the target other ids: its keys must be some that the guest has now."""
    known = {
        use.keys
        for adapter in q.leaves.adapters
        for use in q.source.keys.get(adapter, ())
        if use.domains & q.leaves.domains
    }
    for adapter in q.needed.adapters:
        registers = _current_registers(q.target, adapter)
        rest = _unexpected(registers, q)
        uses = q.target.keys.get(adapter, ())
        if registers and (unknown := _uncovered(q.needed.domains, uses)):
            text = f"master keys on {q.target.name} are not known"
            found.add(Reason.KeysUnknown, Apqn(adapter, lowest(unknown)), text, len(unknown))
        for use in uses if registers else ():
            common = use.domains & q.needed.domains
            if not common:
                continue
            _expected(found, q.matrix, q.target, adapter, common, use, registers)
            if not rest or any(not _comparison(other, use.keys, rest)[0] for other in known):
                continue
            queue = Apqn(adapter, lowest(common))
            if not known:
                text = f"master keys on {q.source.name} are not known"
                found.add(Reason.KeysUnknown, queue, text, len(common))
                continue
            patterns = dict(use.keys.patterns)
            values = ", ".join(f"{register} {patterns.get(register, 'unknown')}" for register in rest)
            text = f"master keys are none that the guest has on {q.source.name}: {values} on {q.target.name}"
            found.add(Reason.KeysDiffer, queue, text, len(common))


def _expected(
    found: Findings,
    matrix: MatrixView,
    node: NodeView,
    adapter: int,
    domains: IdSet,
    use: KeyUse,
    registers: tuple[str, ...],
) -> None:
    """Compare a use of keys on a node with what the matrix expects of its kind of adapter."""
    queue, where = Apqn(adapter, lowest(domains)), f"on {node.name}{_how(use)}"
    families = {register.split()[0] for register in registers}
    patterns = dict(use.keys.patterns)
    for register, pattern in matrix.expected.items():
        if register.split()[0] not in families:
            continue
        value = patterns.get(register)
        if value is None:
            found.add(Reason.KeysUnknown, queue, f"master key {register} {where} is not known", len(domains))
        elif value != pattern:
            text = f"master key {register}: {pattern} expected, {value} {where}"
            found.add(Reason.KeysUnexpected, queue, text, len(domains))


def _pair(found: Findings, queue: Apqn, count: int, mine: Side, yours: Side, registers: tuple[str, ...]) -> None:
    """Compare the keys of queues of the source with those of the same queues of the target."""
    (source, here), (target, there) = mine, yours
    current, others = _comparison(here.keys, there.keys, registers)
    for node, use in (mine, yours):
        if use.sampled and not use.keys.attested:
            text = f"master keys on {node.name} are as read at {use.sampled}, before the queue left the host"
            found.add(Reason.KeysSampled, queue, text, count)
    if not current and not others:
        return
    left, right = dict(here.keys.patterns), dict(there.keys.patterns)
    for register in (*current, *others):
        one, other = left.get(register), right.get(register)
        if one is None or other is None:
            node, use = mine if one is None else yours
            text = f"master key {register} on {node.name}{_how(use)} is not known"
            found.add(Reason.KeysUnknown, queue, text, count)
            continue
        values = f"{one} on {source.name}{_how(here)}, {other} on {target.name}{_how(there)}"
        reason = Reason.KeysDiffer if register in current else Reason.KeysInChange
        hint = _hint(register, one, right) if register in current else ""
        found.add(reason, queue, f"master key {register} differs: {values}{hint}", count)


@functools.lru_cache(maxsize=4096)
def _comparison(
    here: KeySet, there: KeySet, registers: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return current registers that are not known to be equal, and others of which the guest may feel it.

    An old key matters where the source has one: keys not yet re-enciphered need it. A new key that is not empty
    on one side tells that a change is under way.
    """
    left, right = dict(here.patterns), dict(there.patterns)
    current = tuple(r for r in registers if r not in left or left[r] != right.get(r))
    families = {register.split()[0] for register in registers}
    others = tuple(
        register
        for register in sorted(left.keys() & right.keys())
        if register.split()[0] in families
        and left[register] != right[register]
        and (register.endswith(" NEW") or (register.endswith(" OLD") and left[register].startswith("0x")))
    )
    return current, others


def _hint(register: str, mine: str, theirs: Mapping[str, str]) -> str:
    """Say where else on the target the source's current key is."""
    family = register.split()[0]
    if theirs.get(f"{family} OLD") == mine:
        return f"; {mine} is {family} OLD there: the key was changed"
    if mine in theirs.get(f"{family} NEW", ""):
        return f"; {mine} is {family} NEW there: not yet set"
    return ""


def _how(use: KeyUse) -> str:
    if use.keys.attested:
        return " (attested)"
    return f" (read {use.sampled})" if use.sampled else ""


def _current_registers(node: NodeView, adapter: int) -> tuple[str, ...]:
    """Return the registers that hold what a guest's keys are wrapped with; none for an accelerator (C-17)."""
    card = node.cards.get(adapter)
    functions = card.functions or 0 if card is not None else 0
    return _CURRENT[_CCA] if functions & _CCA else _CURRENT[_EP11] if functions & _EP11 else ()


def _unexpected(registers: tuple[str, ...], q: Question) -> tuple[str, ...]:
    expected = q.matrix.expected
    return tuple(register for register in registers if register not in expected) if expected else registers


def _uncovered(domains: IdSet, uses: Iterable[KeyUse]) -> IdSet:
    for use in uses:
        domains -= use.domains
    return domains


def _op_modes(found: Findings, q: Question) -> None:
    """Find EP11 adapters whose operation modes differ or are not known (C-15, Q-12)."""
    domains = q.needed.domains
    for adapter in q.needed.adapters:
        if _current_registers(q.target, adapter) != _CURRENT[_EP11]:
            continue
        mine, yours = _modes(q.source, adapter, domains), _modes(q.target, adapter, domains)
        queue = Apqn(adapter, lowest(domains))
        if not mine or not yours:
            text = f"EP11 operation modes on {(q.target if mine else q.source).name} are not known"
            found.add(Reason.OpModesUnknown, queue, text, len(domains))
        elif mine != yours:
            values = f"{' '.join(mine)} on {q.source.name}, {' '.join(yours)} on {q.target.name}"
            found.add(Reason.OpModesDiffer, queue, f"EP11 operation modes: {values}", len(domains))


def _modes(node: NodeView, adapter: int, domains: IdSet) -> tuple[str, ...]:
    """Return the modes of an adapter's queues, or of the adapter where no queue has told its own."""
    told = {mode for use in node.keys.get(adapter, ()) if use.domains & domains for mode in use.keys.op_modes}
    card = node.cards.get(adapter)
    return tuple(sorted(told)) or (card.op_modes if card is not None else ())
