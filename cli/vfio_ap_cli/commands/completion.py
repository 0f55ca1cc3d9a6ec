"""``kubectl ap completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vfio_ap_cli.completion import VARIABLE
from vfio_ap_cli.exits import MISUSE, Stop


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    r"""Print the completion script of the program kubectl-ap for a shell.

    'kubectl ap' itself is completed by kubectl 1.26 and newer, which runs the program kubectl_complete-ap that
    comes with this one: nothing is to be done but to have kubectl's own completion.

    \b
    source <(kubectl ap completion bash)
    kubectl ap completion zsh > "${fpath[1]}/_kubectl-ap"
    kubectl ap completion fish > ~/.config/fish/completions/kubectl-ap.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Stop(MISUSE, f"there is no completion for {shell}")
    root = context.find_root().command
    click.echo(kind(root, {}, "kubectl-ap", VARIABLE).source())
