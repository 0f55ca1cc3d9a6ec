"""``kubectl ap must-gather``."""

from __future__ import annotations

import importlib.metadata

import click

from vfio_ap_cli import options


@click.command("must-gather")
@click.option(
    "-o",
    "--output",
    "name",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Where to write the archive; must-gather-TIME.tar.gz here by default. Never overwrites.",
)
@options.cluster
@click.pass_context
def command(context: click.Context, name: str | None) -> None:
    r"""Collect all that support needs in one archive: our objects, VMs, pods, nodes, Events, policies, logs.

    Secrets, ConfigMaps, volumes, environments and cloud-init data are never taken. The archive answers the same
    questions as the cluster: give it to --snapshot.

    \b
    kubectl ap must-gather
    kubectl ap must-gather -o /tmp/case-4711.tar.gz
    kubectl ap doctor --snapshot /tmp/case-4711.tar.gz
    """
    from pathlib import Path

    from vfio_ap_cli.pages.summary import pages
    from vfio_ap_cli.reading import cluster, gather
    from vfio_ap_cli.reading.documents import Documents
    from vfio_ap_cli.reading.picture import aimed
    from vfio_ap_cli.snapshot import snapshot
    from vfio_ap_kube.client import Client

    def say(text: str) -> None:
        click.echo(f"kubectl ap: {text}", err=True)

    if name and Path(name).exists():
        raise gather.taken(Path(name))
    where = aimed(options.settings(context))

    async def question(client: Client) -> tuple[Documents, dict[str, str]]:
        return await gather.collect(client, where.credentials.server, say)

    documents, logs = cluster.asked(where, question)
    stamp = f"-{documents.now:%Y%m%dT%H%M%SZ}" if documents.now else ""
    path = Path(name or f"must-gather{stamp}.tar.gz")
    version = importlib.metadata.version("vfio-ap-cli")
    members = gather.write(path, documents, logs, pages(snapshot(documents)), version)
    say(f"{len(members)} files in {path}, {max(path.stat().st_size >> 10, 1)} KiB")
    click.echo(path)
