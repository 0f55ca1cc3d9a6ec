"""``kubectl_complete-ap``: what kubectl asks to complete ``kubectl ap …`` (kubectl 1.26 and newer).

kubectl gives the words after ``ap`` and reads one completion a line, with a description after a tab, and last a
colon and a number: 4 says that these are all, 0 that the shell may offer files (cobra's ShellCompDirective).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete

PROGRAM = "kubectl ap"
VARIABLE = "_KUBECTL_AP_COMPLETE"
_FILES, _NO_FILES = 0, 4


def answer(commands: click.Command, words: Sequence[str]) -> str:
    """Return what kubectl is told for these words, of which the last is the begun one."""
    *before, begun = words or [""]
    shell = ShellComplete(commands, {}, PROGRAM, VARIABLE)
    lines = []
    directive = _NO_FILES
    for item in shell.get_completions(list(before), begun):
        if item.type in ("file", "dir"):
            directive = _FILES
        else:
            lines.append(f"{item.value}\t{item.help}" if item.help else str(item.value))
    return "\n".join([*lines, f":{directive}"]) + "\n"


def main() -> None:
    """Answer kubectl."""
    from vfio_ap_cli.main import commands

    sys.stdout.write(answer(commands, sys.argv[1:]))
