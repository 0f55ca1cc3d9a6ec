"""``kubectl ap plan``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import MISUSE, NO, Stop


@click.command("plan")
@click.option(
    "-f",
    "--filename",
    "names",
    multiple=True,
    required=True,
    metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True),
    help="YAML of what you mean to apply; may be given more than once.",
)
@options.cluster
@options.offline
@options.output("json", "yaml")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    r"""Show what files would change where, before they are applied: devices, masks, conflicts. Writes nothing.

    Foretold is the effect of APMatrix, APMigrationPolicy, APNode (spec.hostReserved), VirtualMachine and
    VirtualMachineInstance. Exit code 1 says that something would be refused.

    \b
    kubectl ap plan -f payments.yaml
    kubectl ap plan -f payments.yaml --snapshot must-gather.tar.gz     no cluster at hand
    helm template . | kubectl ap plan -f -
    """
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.pages import plan as pages
    from vfio_ap_cli.questions import plan as questions
    from vfio_ap_cli.questions.overlay import KINDS
    from vfio_ap_cli.reading.files import manifests
    from vfio_ap_cli.reading.picture import take
    from vfio_ap_cli.snapshot import GUARDS

    files = manifests(names)
    if not any(document["kind"] in KINDS for document in files):
        raise Stop(MISUSE, "the files have no object of ours", f"plan foretells {', '.join(KINDS)}")
    settings = options.settings(context)
    picture = take(settings, "Namespace", *GUARDS)
    answer = questions.answer(picture.snapshot.documents, files, picture.namespace)
    if settings.output in ("json", "yaml"):
        out.document(answer, settings.output)
    else:
        out.show(*pages.page(answer))
    if answer.refused:
        context.exit(NO)
