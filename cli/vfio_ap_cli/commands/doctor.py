"""``kubectl ap doctor``."""

from __future__ import annotations

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import NO, NO_CLUSTER


@click.command("doctor")
@options.cluster
@options.offline
@options.output("json", "yaml")
@click.pass_context
def command(context: click.Context) -> None:
    r"""Check everything that the product needs, and print the exact remedy for what is missing.

    Looked at are the CRDs, operator and agents, the admission policies, KubeVirt's version and configuration. Exit
    code 1 says that something is red, or could not be looked at.

    \b
    kubectl ap doctor
    kubectl ap doctor -o json | jq '.[] | select(.state == "FAIL")'
    kubectl ap doctor --snapshot must-gather.tar.gz
    """
    from vfio_ap_cli.pages import doctor as pages
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import doctor as questions
    from vfio_ap_cli.reading.picture import take

    settings = options.settings(context)
    snapshot = take(settings, needed=questions.KINDS, strict=False).snapshot
    found = questions.checks(snapshot)
    if settings.output in ("json", "yaml"):
        out.document(found, settings.output)
    else:
        out.show(*pages.page(found, snapshot.documents.where, snapshot.documents.version))
    if questions.unhealthy(found):
        context.exit(NO_CLUSTER if questions.blind(found) else NO)
