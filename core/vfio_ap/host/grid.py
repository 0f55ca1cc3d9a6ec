"""Adapters x domains of a host as a picture in text. Pure.

Rows are adapters, columns are domains. Runs of domains that look the same in every row share one column, and
runs of adapters that look the same one row, so that 60 x 85 queues fit where 3 x 4 do::

               4    17    18    71
      5 CEX8C  a    a*    h     h
      6 CEX8P  a    a*    h     h
      7 CEX8A  h    h     h     h
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vfio_ap.host.view import GUEST_DRIVER, HostView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn

HOST, FREE, DRIVERLESS, ABSENT, OTHER = "h", "g", "-", ".", "?"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefijklmnopqrstuvwxyz"
"""Marks of mdevs; g and h are taken."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The picture's parts, for other renderers than text."""

    rows: tuple[tuple[IdSet, str], ...]
    """Adapters that look the same, and their type."""
    columns: tuple[IdSet, ...]
    """Domains that look the same."""
    cells: tuple[tuple[str, ...], ...]
    marks: Mapping[str, str]
    """Mark by mdev UUID."""


def marks_of(uuids: Sequence[str]) -> dict[str, str]:
    """Return a mark for each mdev: letters first, then numbers."""
    return {u: _LETTERS[i] if i < len(_LETTERS) else str(i + 1) for i, u in enumerate(uuids)}


def build(view: HostView, *, fold: bool = True) -> Grid:
    """Return the picture of a host; ``fold`` joins what looks the same."""
    marks = marks_of(list(view.mdevs))
    owner = {}
    for uuid, mdev in view.mdevs.items():
        for apqn in mdev.matrix or ():
            owner[apqn] = marks[uuid]
    adapters = sorted(set(view.adapters) | {apqn.adapter for apqn in owner})
    domains = sorted({apqn.domain for apqn in view.queues} | {apqn.domain for apqn in owner})

    def cell(adapter: int, domain: int) -> str:
        apqn = Apqn(adapter, domain)
        queue = view.queues.get(apqn)
        mark = owner.get(apqn)
        if queue is None:
            return f"({mark})" if mark else ABSENT
        if mark and queue.driver == GUEST_DRIVER:
            return mark + "*" if queue.status == "in use" else mark
        if mark:
            return f"({mark})"
        if queue.driver == GUEST_DRIVER:
            return FREE
        if not queue.driver:
            return DRIVERLESS
        return HOST if queue.driver.startswith("cex") else OTHER

    table = [[cell(adapter, domain) for domain in domains] for adapter in adapters]
    types = [view.adapters[adapter].type if adapter in view.adapters else "absent" for adapter in adapters]
    column_keys = [tuple(row[i] for row in table) for i in range(len(domains))]
    row_keys = [(types[i], *table[i]) for i in range(len(adapters))]
    column_runs = _runs(len(domains), lambda i: column_keys[i] if fold else i)
    row_runs = _runs(len(adapters), lambda i: row_keys[i] if fold else i)
    return Grid(
        tuple((IdSet.from_ids(adapters[i] for i in run), types[run[0]]) for run in row_runs),
        tuple(IdSet.from_ids(domains[i] for i in run) for run in column_runs),
        tuple(tuple(table[run[0]][column[0]] for column in column_runs) for run in row_runs),
        marks,
    )


def _runs(size: int, key: Callable[[int], object]) -> list[list[int]]:
    runs: list[list[int]] = []
    for index in range(size):
        if runs and key(runs[-1][-1]) == key(index):
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def render(view: HostView, *, width: int = 100, names: Mapping[str, str] | None = None) -> str:
    """Return the picture with its legend; blocks of columns follow each other where the width does not suffice."""
    small = len(view.adapters) <= 16 and len({apqn.domain for apqn in view.queues}) <= 16
    grid = build(view, fold=not small)
    if not grid.rows:
        return "no adapters\n"
    labels = [f"{adapters!s:>5} {kind}" for adapters, kind in grid.rows]
    left = max(len(label) for label in labels) + 2
    lines: list[str] = []
    for block in _blocks(grid, max(width - left, 12)):
        widths = {i: max(len(str(grid.columns[i])), *(len(row[i]) for row in grid.cells)) + 2 for i in block}
        head = "".join(f"{grid.columns[i]!s:<{widths[i]}}" for i in block)
        lines.append((" " * left + head).rstrip())
        for label, row in zip(labels, grid.cells, strict=True):
            lines.append((f"{label:<{left}}" + "".join(f"{row[i]:<{widths[i]}}" for i in block)).rstrip())
        lines.append("")
    return "\n".join([*lines, *_legend(view, grid, names or {})]) + "\n"


def _blocks(grid: Grid, width: int) -> list[list[int]]:
    blocks: list[list[int]] = [[]]
    used = 0
    for index, column in enumerate(grid.columns):
        need = max(len(str(column)), *(len(row[index]) for row in grid.cells)) + 2
        if blocks[-1] and used + need > width:
            blocks.append([])
            used = 0
        blocks[-1].append(index)
        used += need
    return blocks


def _legend(view: HostView, grid: Grid, names: Mapping[str, str]) -> list[str]:
    seen = {cell for row in grid.cells for cell in row}
    words = {
        HOST: "host",
        FREE: "vfio_ap, free",
        DRIVERLESS: "no driver",
        ABSENT: "not there",
        OTHER: "other driver",
    }
    parts = [f"{mark} {word}" for mark, word in words.items() if mark in seen]
    if any(cell.endswith("*") for cell in seen):
        parts.append("* in use by a guest")
    if any(cell.startswith("(") for cell in seen):
        parts.append("(x) assigned, but not with vfio_ap")
    lines = ["  ".join(parts)] if parts else []
    for uuid, mark in grid.marks.items():
        mdev = view.mdevs[uuid]
        lines.append(
            f"{mark} {uuid}  {names.get(uuid, 'foreign')}{'  in use by ' + mdev.user if mdev.in_use else ''}"
        )
    return lines
