"""``kubectl ap explain``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import NO, Stop
from vfio_ap_cli.naming import KINDS, complete, split, word_of


@click.command("explain")
@click.argument("object", metavar="KIND/NAME", shell_complete=complete(*KINDS, prefixed=True))
@options.cluster
@options.offline
@options.output("json", "yaml")
@click.pass_context
def command(context: click.Context, object: str) -> None:
    r"""Say what holds an object, what was said of it lately, and what to do.

    An object is apm/NAME, apn/NAME, apmp/NAME, apmig/NAME, vm/NAME, vmi/NAME or pod/NAME. Exit code 1 says that
    something holds it.

    \b
    kubectl ap explain vm/ledger -n bank
    kubectl ap explain pod/virt-launcher-ledger-x7k2p -n bank
    kubectl ap explain apm/payments
    kubectl ap explain apmig/ledger-1 -n bank --snapshot must-gather.tar.gz
    """
    from vfio_ap_cli.pages import explain as pages
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import explain as questions
    from vfio_ap_cli.reading.picture import take
    from vfio_ap_cli.snapshot import GUARDS

    kind, name = split(object)
    settings = options.settings(context)
    whole = kind in ("APMatrix", "APNode", "APMigrationPolicy")
    # The Events of objects without a namespace are in the namespace default
    within = {"VirtualMachine": "", "APMigration": "", "Event": "default" if whole else ""}
    picture = take(settings, *questions.KINDS, *GUARDS, within=within)
    found = questions.explain(picture.snapshot, kind, picture.namespace, name)
    if found is None:
        where = "" if whole else f" in namespace {picture.namespace}"
        raise Stop(
            NO,
            f"there is no {word_of(kind)} {name}{where}",
            "see its name and -n; of pods only those with a matrix count",
        )
    if settings.output in ("json", "yaml"):
        out.document(found, settings.output)
    else:
        out.show(*pages.page(found))
    if found.holds:
        context.exit(NO)
