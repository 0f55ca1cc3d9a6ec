"""``kubectl ap version``."""

from __future__ import annotations

import importlib.metadata

import click

from vfio_ap_cli import options
from vfio_ap_cli.exits import Stop


@click.command("version")
@options.cluster
@options.offline
@options.output("json", "yaml")
@click.pass_context
def command(context: click.Context) -> None:
    """Show the version of this program, of the API server, and of what is installed there.

    A cluster that cannot be reached is said so, and is no failure.
    """
    from vfio_ap_cli.pages import out
    from vfio_ap_cli.questions import version as questions
    from vfio_ap_cli.reading.picture import take

    settings = options.settings(context)
    own = importlib.metadata.version("vfio-ap-cli")
    try:
        snapshot = take(settings, needed=questions.KINDS, strict=False).snapshot
        answer = questions.answer(own, snapshot)
    except Stop as stop:
        answer = questions.Versions(own, problem=stop.message)
    if settings.output in ("json", "yaml"):
        out.document(answer, settings.output)
        return
    pairs = [
        ("kubectl ap", answer.client),
        ("Kubernetes", answer.kubernetes),
        ("KubeVirt", answer.kubevirt),
        ("operator", answer.operator),
        *((f"agent {version}", f"{count} nodes") for version, count in sorted(answer.agents.items())),
        ("cluster", answer.problem),
    ]
    out.show(out.facts(pairs))
