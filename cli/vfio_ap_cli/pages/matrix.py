"""Pages of ``kubectl ap matrix``."""

from __future__ import annotations

from collections.abc import Sequence

from vfio_ap.idset import IdSet
from vfio_ap_cli.pages import out
from vfio_ap_cli.questions.matrix import MatrixAnswer, MatrixRow

_COLUMNS = ("NAME", "ADAPTERS", "DOMAINS", "PLACEMENT", "READY", "USED BY", "STATE")
_MOST = 64
"""Queues that are drawn one by one."""


def listing(rows: Sequence[MatrixRow], *, wide: bool = False) -> str:
    """Return all matrices, one a line."""
    if not rows:
        return "there is no APMatrix; docs/user-guide.md shows how to write one"
    more = ("CONTROL", "NAMESPACES", "UUID") if wide else ()
    return out.table((*_COLUMNS, *more, "MESSAGE"), (_cells(row, wide=wide) for row in rows), sentence=True)


def _cells(row: MatrixRow, *, wide: bool) -> list[str]:
    cells = [row.name, row.adapters, row.domains, row.placement, row.ready, row.used_by or "-", row.state]
    if wide:
        cells += [row.control_domains or "-", ",".join(row.namespaces) or "-", row.uuid or "-"]
    return [*cells, row.message]


def one(answer: MatrixAnswer) -> list[str]:
    """Return a matrix's page: what it is, its queues, its nodes, its pods."""
    row = answer.row
    parts = [
        out.facts(
            (
                ("matrix", row.name),
                ("UUID", row.uuid or "not assigned yet"),
                ("adapters", row.adapters),
                ("domains", row.domains),
                ("control", row.control_domains),
                ("queues", str(answer.queues)),
                ("variants", "; ".join(answer.variants)),
                ("keys", ", ".join(f"{k} {v}" for k, v in sorted(answer.expected_keys.items()))),
                ("placement", row.placement),
                (
                    "nodes",
                    ", ".join(f"{k}={v}" for k, v in sorted(answer.selector.items())) or "all with an AP bus",
                ),
                ("namespaces", ", ".join(row.namespaces) or "none"),
                ("used by", row.used_by or "nobody"),
                ("ready", f"{row.ready} nodes {'could have' if row.placement == 'OnDemand' else 'have'} it"),
                ("state", row.state),
                ("message", row.message),
            )
        )
    ]
    parts += ["\n".join(out.folded(sentence)) for sentence in answer.conditions]
    if 0 < answer.queues <= _MOST:
        parts += [out.heading("queues"), _queues(row)]
    cells = ((s.node, s.state, s.reason or "-", "yes" if s.in_use else "-", s.message) for s in answer.nodes)
    columns = ("NODE", "STATE", "REASON", "IN USE", "MESSAGE")
    parts += [out.heading("nodes"), out.table(columns, cells, sentence=True) if answer.nodes else "none"]
    if answer.pods:
        pods = ((p.vm, p.pod, p.node or "-", p.state, p.message) for p in answer.pods)
        parts += [out.heading("pods"), out.table(("VM", "POD", "NODE", "STATE", "WHY"), pods, sentence=True)]
    return parts


def _queues(row: MatrixRow) -> str:
    """Return the queues by the kernel's names, a line for each adapter."""
    adapters, domains = IdSet.parse(row.adapters), IdSet.parse(row.domains)
    return out.table(
        ("ADAPTER", *(str(domain) for domain in domains)),
        ((str(adapter), *(f"{adapter:02x}.{domain:04x}" for domain in domains)) for adapter in adapters),
    )
