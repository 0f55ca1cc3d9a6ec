"""``kubectl ap check``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import MISUSE, NO, Stop
from vfio_ap_cli.naming import complete, split


@click.command("check")
@click.argument("vm", metavar="vm/NAME", shell_complete=complete("VirtualMachine", prefixed=True))
@click.option("--node", default="", metavar="NAME", help="Ask about this node alone, with every reason.")
@click.option(
    "--mode",
    type=click.Choice(["Live", "Reattach", "Restart"]),
    help="Ask about this mode, whether or not the VM's policy allows it.",
)
@options.cluster
@options.offline
@options.output("wide", "name", "json", "yaml")
@click.pass_context
def command(context: click.Context, vm: str, node: str, mode: str | None) -> None:
    r"""Say whether a VM can move, node by node, and the exact reason where it cannot. Moves nothing.

    A VM that does not run is asked where it could start. Exit code 1 says that it can go nowhere. Who may not
    read APNodes can ask the operator by an APMigration with dryRun: true instead.

    \b
    kubectl ap check vm/ledger -n bank
    kubectl ap check vm/ledger -n bank --node lnx2            every reason and warning
    kubectl ap check vm/ledger -n bank --mode Restart
    kubectl ap check vm/ledger -n bank -o name                the nodes, for scripts
    """
    from vfio_ap.fleet.verdict import Mode
    from vfio_ap_cli.pages import check as pages
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import check as questions
    from vfio_ap_cli.reading.picture import take
    from vfio_ap_cli.snapshot import GUARDS

    kind, name = split(vm, "VirtualMachine")
    if kind not in questions.KINDS:
        raise Stop(MISUSE, f"{vm} is not a VM", "write vm/NAME")
    settings = options.settings(context)
    picture = take(settings, "VirtualMachine", *GUARDS, within={"VirtualMachine": ""})
    if node and node not in picture.snapshot.nodes:
        raise Stop(NO, f"there is no node {node} with an AP bus", "see kubectl ap nodes")
    answer = questions.answer(picture.snapshot, picture.namespace, name, node, Mode(mode) if mode else None)
    if isinstance(answer, questions.NotAMatrixVm):
        raise Stop(NO, answer.message, answer.remedy)
    match settings.output:
        case "json" | "yaml":
            out.document(answer, settings.output)
        case "name":
            out.names(f"node/{item.node}" for item in answer.nodes if item.can)
        case _:
            out.show(*pages.page(answer, every=bool(node) or settings.output == "wide"))
    if not answer.yes:
        context.exit(NO)
