"""``kubectl ap matrix``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import NO, Stop
from vfio_ap_cli.naming import complete


@click.command("matrix")
@click.argument("name", required=False, shell_complete=complete("APMatrix"))
@options.cluster
@options.offline
@options.output("wide", "name", "json", "yaml")
@click.pass_context
def command(context: click.Context, name: str | None) -> None:
    r"""Show where an APMatrix stands, node by node, and who uses it; without a NAME, all of them.

    What is shown is computed now, by the operator's own rules, from what nodes and pods are. Exit code 1 says
    that the matrix is refused or not ready.

    \b
    kubectl ap matrix                 all matrices, each with its reason
    kubectl ap matrix payments        its nodes, its queues, its pods
    kubectl ap matrix payments -o json
    """
    from vfio_ap_cli.pages import matrix as pages
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import matrix as questions
    from vfio_ap_cli.reading.picture import take
    from vfio_ap_cli.snapshot import GUARDS

    settings = options.settings(context)
    snapshot = take(settings, *GUARDS).snapshot
    if name is None:
        rows = questions.rows(snapshot)
        page = pages.listing(rows, wide=settings.output == "wide")
        out.rows(rows, [f"apmatrix/{row.name}" for row in rows], page, settings.output)
        return
    answer = questions.answer(snapshot, name.removeprefix("apmatrix/"))
    if answer is None:
        raise Stop(NO, f"there is no APMatrix {name}", "see kubectl ap matrix for those there are")
    if settings.output in ("json", "yaml"):
        out.document(answer, settings.output)
    else:
        out.show(*pages.one(answer))
    if not answer.row.state.startswith(("Ready", "Degraded")):
        context.exit(NO)
