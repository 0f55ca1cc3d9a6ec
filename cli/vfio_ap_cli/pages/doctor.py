"""The page of ``kubectl ap doctor``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import click

from vfio_ap_cli.pages import out
from vfio_ap_cli.questions.doctor import Check

_MARK = 9
_LABEL = 26
"""Longest name that texts are put beside."""


def page(found: Sequence[Check], where: str, version: str) -> list[str]:
    """Return the checks, area by area, each remedy under its check; commands are never folded."""
    lines = [f"{where}{', Kubernetes ' + version if version else ''}"]
    for area, group in itertools.groupby(found, lambda check: check.area):
        lines.append(out.heading(area))
        checks = list(group)
        left = max(len(check.name) for check in checks if len(check.name) <= _LABEL or check is checks[0]) + 2
        for check in checks:
            lines += _one(check, min(left, _LABEL + 2))
    counts = {state: sum(check.state == state for check in found) for state in ("ok", "warn", "FAIL", "unknown")}
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return ["\n".join(lines), f"\n{told}"]


def _one(check: Check, left: int) -> list[str]:
    mark = out.coloured(check.state.ljust(_MARK))
    indent = _MARK + left
    if len(check.name) + 2 <= left:
        first, *more = out.folded(check.message, indent)
        lines = [mark + check.name.ljust(left) + first.strip(), *more]
    else:
        lines = [mark + check.name, *out.folded(check.message, indent)]
    return lines + (_remedy(check.remedy) if check.remedy else [])


def _remedy(text: str) -> list[str]:
    """Return a remedy; a command stays on one line, to be copied."""
    begin = " " * _MARK + "do: "
    if text.startswith(("kubectl ", "helm ")):
        return [begin + click.style(text, bold=True)]
    first, *more = out.folded(text, len(begin))
    return [begin + first.strip(), *more]
