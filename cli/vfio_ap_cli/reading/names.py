"""The names of a kind's objects, for completion: quickly or not at all, and never with an error."""

from __future__ import annotations

from vfio_ap_cli.exits import Stop
from vfio_ap_cli.options import Settings
from vfio_ap_cli.reading import cluster, files
from vfio_ap_cli.reading.documents import SOURCES
from vfio_ap_cli.reading.picture import aimed
from vfio_ap_kube.client import Client

_PATIENCE = 2.0


def names(settings: Settings, kind: str) -> list[str]:
    """Return the names, none where they cannot be had."""
    source = SOURCES[kind]
    try:
        if settings.snapshot:
            return sorted(item["metadata"]["name"] for item in files.snapshot(settings.snapshot).of(kind))
        where = aimed(settings)
        resource = source.resources()[0]
        if kind in ("Pod", "VirtualMachine", "VirtualMachineInstance", "APMigration"):
            resource = resource.within(settings.namespace or where.namespace)
        query = {"labelSelector": source.selector} if source.selector else {}

        async def question(client: Client) -> list[str]:
            answer = await client.listing(resource, **query)
            return sorted(item["metadata"]["name"] for item in answer.get("items") or [])

        return cluster.asked(where, question, timeout=_PATIENCE)
    except Stop:
        return []
