"""The program ``kubectl-ap``: the commands, each imported when it is asked for. Decides nothing."""

from __future__ import annotations

import importlib
import os

import click

from vfio_ap_cli.completion import PROGRAM, VARIABLE
from vfio_ap_cli.exits import MISUSE, Stop
from vfio_ap_cli.options import cluster, settings

_HELP = {
    "nodes": "Nodes with an AP bus; with a NAME, that node's adapters x domains.",
    "matrix": "Where an APMatrix stands, node by node, and who uses it.",
    "check": "Whether a VM can move, node by node, and why not.",
    "explain": "What holds an object, and what to do.",
    "plan": "What a file would change where, before it does.",
    "doctor": "Everything the product needs, green or red, with its remedy.",
    "must-gather": "One archive of all that support needs; no secrets.",
    "version": "The version, here and in the cluster.",
    "completion": "Completion for bash, zsh or fish.",
}
"""The short help of each command, so that --help imports none of them."""


class _Commands(click.Group):
    """Imports a command's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands, the most used first."""
        return list(_HELP)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command from its module, None when there is none of this name."""
        if cmd_name not in _HELP:
            return None
        module = importlib.import_module("vfio_ap_cli.commands." + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        command.short_help = _HELP[cmd_name]
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where objects came from files, one that makes no sense is said in a sentence.

        The API server holds objects to their schemas; nobody does that for files. KUBECTL_AP_TRACE shows where.
        """
        try:
            return super().invoke(ctx)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            chosen = settings(ctx)
            if not (chosen.snapshot or ctx.invoked_subcommand == "plan") or os.environ.get("KUBECTL_AP_TRACE"):
                raise
            where = f"{chosen.snapshot or 'the files'} or what is compared with them"
            text = f"an object in {where} makes no sense ({type(error).__name__}: {error})"
            raise Stop(MISUSE, text, "take objects as kubectl get -o yaml prints them") from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_HELP.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, or yes; 1 no, refused or unhealthy; 2 misuse; 3 the cluster cannot be "
    "reached or forbids it. 'kubectl ap COMMAND --help' has examples.",
)
@cluster
def commands() -> None:
    """Crypto adapters of IBM Z for KubeVirt VMs: where they are, who has them, what can move.

    Nothing here changes anything.
    """


def main() -> None:
    """Run the command line and exit."""
    commands(prog_name=PROGRAM, complete_var=VARIABLE)
