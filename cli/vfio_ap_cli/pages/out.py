"""How answers reach the terminal: tables and text for people, documents for programs.

A table is as kubectl's, but its last column may hold sentences: where there is room it is folded beside the
others, where there is none it stands under its row. Nothing is ever left out. Where the output is not a terminal
nothing is folded, so that grep finds whole sentences. Colours only on a terminal that wants them; NO_COLOR is
honoured.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import yaml

from vfio_ap.errors import Refusal
from vfio_ap.idset import IdSet

_ENDLESS = 100_000
_GAP = 2
_ROOM = 28
"""Columns that a sentence needs beside others, to be worth reading there."""
_WORD = 12
"""Columns that a word may stand out over the edge."""
_COLOURS = {
    "red": ("Failed", "Refused", "NotReady", "silent", "no", "Alarm", "FAIL", "refused"),
    "yellow": ("Pending", "Degraded", "Deleting", "unknown", "Incomplete", "Leaving", "Waiting", "warn"),
    "green": ("Ready", "Available", "yes", "ok", "Succeeded", "alive", "can"),
}


def width() -> int:
    """Return the columns there are; endless where the output is not a terminal and COLUMNS is not set."""
    if os.environ.get("COLUMNS", "").isdigit():
        return max(int(os.environ["COLUMNS"]), 40)
    return shutil.get_terminal_size((100, 40)).columns if sys.stdout.isatty() else _ENDLESS


def colours() -> bool:
    """Tell whether the terminal wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(*parts: str) -> None:
    """Print parts of a page, one under the other; empty ones are left out."""
    for part in parts:
        if part:
            click.echo(part, color=colours())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, sentence: bool = False) -> str:
    """Return a table; with ``sentence`` its last column is folded, put under its row, or left out when empty."""
    cells = [list(row) for row in rows]
    if sentence and not any(row[-1] for row in cells):
        columns, cells, sentence = columns[:-1], [row[:-1] for row in cells], False
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    rest = sum(widths[:-1]) + _GAP * (len(columns) - 1)
    room = width() - rest
    if not sentence or widths[-1] <= room:
        return "\n".join([_line(columns, widths, bold=True), *(_line(row, widths) for row in cells)])
    if room >= _ROOM:
        lines = [_line(columns, widths, bold=True)]
        for row in cells:
            first, *more = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
            lines.append(_line([*row[:-1], first], widths))
            lines += [" " * rest + text for text in more]
        return "\n".join(lines)
    lines = [_line(columns if room >= len(columns[-1]) else columns[:-1], widths, bold=True)]
    for row in cells:
        if len(row[-1]) <= max(room, _WORD):
            lines.append(_line(row, widths))
        else:
            lines += [_line(row[:-1], widths), *folded(row[-1], 4)]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], *, bold: bool = False) -> str:
    """Return a line; blanks at its end are cut before colours are put on."""
    padded = [cell.ljust(size + _GAP) for cell, size in zip(row, widths, strict=False)]
    while padded and not padded[-1].strip():
        padded.pop()
    if padded:
        padded[-1] = padded[-1].rstrip()
    return "".join(click.style(cell, bold=True) if bold else coloured(cell) for cell in padded)


def coloured(text: str) -> str:
    """Return a text in the colour of what its first word means."""
    word = text.split(" ", 1)[0].rstrip(",")
    colour = next((name for name, words in _COLOURS.items() if word in words), None)
    return click.style(text, fg=colour) if colour else text


def folded(text: str, indent: int = 0) -> list[str]:
    """Return the lines of a sentence, indented."""
    room = max(width() - indent, 20)
    return [" " * indent + line for line in textwrap.wrap(text, room, break_on_hyphens=False)]


def heading(text: str) -> str:
    """Return a line above a part of a page."""
    return "\n" + click.style(text, bold=True)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values, those without a value left out."""
    told = [(name, value) for name, value in pairs if value]
    left = max((len(name) for name, _ in told), default=0) + _GAP
    lines = []
    for name, value in told:
        first, *more = textwrap.wrap(value, max(width() - left, 20), break_on_hyphens=False)
        lines.append(click.style(name.ljust(left), bold=True) + coloured(first))
        lines += [" " * left + line for line in more]
    return "\n".join(lines)


def document(answer: object, form: str) -> None:
    """Print an answer as JSON or YAML."""
    value = plain(answer)
    if form == "json":
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True, width=10**6)


def names(found: Iterable[str]) -> None:
    """Print one name a line."""
    for name in found:
        sys.stdout.write(name + "\n")


def rows(found: object, called: Iterable[str], page: str, form: str) -> None:
    """Print a list of objects in a form: their names, the answer as a document, or the page for people."""
    match form:
        case "name":
            names(called)
        case "json" | "yaml":
            document(found, form)
        case _:
            show(page)


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a value of dataclasses as JSON has it: camelCase names, id sets as ranges, nothing that is None."""
    match value:
        case Refusal():
            return {
                key: text
                for key in ("reason", "subject", "message", "remedy")
                if (text := str(getattr(value, key)))
            }
        case IdSet():
            return str(value)
        case enum.Enum():
            return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((item.name, getattr(value, item.name)) for item in dataclasses.fields(value))
        return {_camel(name): plain(inner) for name, inner in pairs if inner is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(inner) for inner in items]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
