"""``kubectl ap nodes``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import NO, Stop
from vfio_ap_cli.naming import complete


@click.command("nodes")
@click.argument("name", required=False, shell_complete=complete("APNode"))
@options.cluster
@options.offline
@options.output("wide", "name", "json", "yaml")
@click.pass_context
def command(context: click.Context, name: str | None) -> None:
    r"""Show the nodes with an AP bus, or with a NAME that node's adapters x domains.

    \b
    kubectl ap nodes                  machine, queues, what each kernel can do
    kubectl ap nodes -o wide          also kernel, key sets and matrices
    kubectl ap nodes lnx1             its grid, devices and master keys
    kubectl ap nodes --snapshot must-gather.tar.gz
    """
    from vfio_ap_cli.pages import nodes as pages
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import nodes as questions
    from vfio_ap_cli.reading.picture import take

    settings = options.settings(context)
    snapshot = take(settings).snapshot
    if name is None:
        rows = questions.rows(snapshot)
        page = pages.listing(rows, wide=settings.output == "wide")
        out.rows(rows, [f"apnode/{row.name}" for row in rows], page, settings.output)
        return
    answer = questions.answer(snapshot, name.removeprefix("apnode/"))
    if answer is None:
        raise Stop(NO, f"there is no APNode {name}", "see kubectl ap nodes for those there are")
    if settings.output in ("json", "yaml"):
        out.document(answer, settings.output)
    else:
        out.show(*pages.one(answer))
