"""From the user's settings to a snapshot: of the cluster, or of the files that stand for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vfio_ap_cli.exits import NO_CLUSTER, Stop
from vfio_ap_cli.options import Settings
from vfio_ap_cli.reading import cluster, files
from vfio_ap_cli.reading.documents import Documents
from vfio_ap_cli.reading.kubeconfig import Target, target
from vfio_ap_cli.snapshot import NEEDED, Snapshot, snapshot
from vfio_ap_kube.client import Client


@dataclass(frozen=True, slots=True)
class Picture:
    """A snapshot, and the namespace that is meant where none is named."""

    snapshot: Snapshot
    namespace: str


def take(
    settings: Settings,
    *more: str,
    needed: Iterable[str] = NEEDED,
    strict: bool = True,
    within: Mapping[str, str] | None = None,
) -> Picture:
    """Return the picture of what the settings name; ``more`` kinds are read beside the ``needed`` ones.

    ``within`` has the kinds that are read in one namespace only, the empty one stands for the user's.

    Raises Stop where there is no cluster and, if ``strict``, where our own kinds are not there or may not be read.
    """
    kinds = tuple(dict.fromkeys((*needed, *more)))
    if settings.snapshot:
        return Picture(snapshot(files.snapshot(settings.snapshot)), settings.namespace or "default")
    where = aimed(settings)
    namespace = settings.namespace or where.namespace
    documents = documents_of(where, kinds, {kind: space or namespace for kind, space in (within or {}).items()})
    for kind in ("APNode", "APMatrix") if strict else ():
        if kind in documents.missing:
            raise Stop(
                NO_CLUSTER,
                f"you may not look: {documents.missing[kind]}",
                "ask the cluster's administrator for read access to ap.s390x.io",
            )
        if kind in documents.unserved:
            raise Stop(
                NO_CLUSTER,
                f"{where.credentials.server} has no {kind} objects",
                "install the chart, or choose another --context; see kubectl ap doctor",
            )
    return Picture(snapshot(documents), namespace)


def aimed(settings: Settings) -> Target:
    """Return which cluster is meant. Raises Stop."""
    return target(settings.kubeconfig, settings.context)


def documents_of(where: Target, kinds: Iterable[str], within: Mapping[str, str]) -> Documents:
    """Return the documents of a cluster. Raises Stop."""
    wanted = tuple(kinds)

    async def question(client: Client) -> Documents:
        return await cluster.read(client, where.credentials.server, wanted, within)

    return cluster.asked(where, question)
