"""Reads a cluster: several kinds at once, each whole. What may not be read is noted, not guessed."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from vfio_ap_cli.exits import NO_CLUSTER, Stop
from vfio_ap_cli.reading.documents import PRODUCT, SOURCES, Document, Documents, Source
from vfio_ap_cli.reading.kubeconfig import Target
from vfio_ap_kube.client import ApiError, Client, Resource
from vfio_ap_kube.clock import api_time
from vfio_ap_kube.credentials import CredentialsError

MANAGER = "kubectl-ap"
_DEPLOYMENTS = Resource("apps/v1", "deployments")
Answer = TypeVar("Answer")


def asked(where: Target, question: Callable[[Client], Awaitable[Answer]], *, timeout: float = 30) -> Answer:
    """Return what a question gets from the cluster. Raises Stop when it cannot be reached."""

    async def run() -> Answer:
        async with Client(where.credentials, manager=MANAGER, timeout=timeout) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except ApiError as error:
        raise stopped(error, where.credentials.server) from None
    except CredentialsError as error:
        raise Stop(NO_CLUSTER, str(error), "log in again") from None


def stopped(error: ApiError, server: str) -> Stop:
    """Return the end of the command that an answer of the API server means."""
    if error.status == 0:
        return Stop(NO_CLUSTER, f"{server} cannot be reached: {error}", "see kubectl cluster-info")
    if error.status == 401:
        return Stop(NO_CLUSTER, f"{server} does not know you: {error}", "log in again")
    if error.status == 403:
        return Stop(NO_CLUSTER, f"you may not look: {error}", "ask the cluster's administrator for read access")
    return Stop(NO_CLUSTER, f"{server} answered {error.status}: {error}")


async def read(
    client: Client, server: str, kinds: Iterable[str], within: Mapping[str, str] | None = None
) -> Documents:
    """Return the objects of these kinds, of some ``within`` a namespace only.

    Raises ApiError when the server is away or knows no such user.
    """
    base = await _base(client, server)
    wanted = [SOURCES[kind] for kind in kinds]
    spaces = {source.kind: base.system for source in wanted if source.own} | dict(within or {})
    answers = await asyncio.gather(*(_read(client, source, spaces.get(source.kind, "")) for source in wanted))
    found: dict[str, tuple[Document, ...]] = {}
    missing: dict[str, str] = {}
    unserved = set()
    for source, answer in zip(wanted, answers, strict=True):
        match answer:
            case str():
                missing[source.kind] = answer
            case None:
                unserved.add(source.kind)
                found[source.kind] = ()
            case _:
                found[source.kind] = answer
    return replace(base, kinds=found, missing=missing, unserved=frozenset(unserved))


async def _base(client: Client, server: str) -> Documents:
    version, system, now = await asyncio.gather(_version(client), _system(client), _clock(client))
    return Documents(where=server, version=version, system=system, now=now)


async def _version(client: Client) -> str:
    answer: dict[str, Any] = await client.request("GET", "/version")
    return str(answer.get("gitVersion", ""))


async def _system(client: Client) -> str:
    """Return the namespace of the operator's Deployment, the chart's usual one where none is seen."""
    try:
        found = (await client.listing(_DEPLOYMENTS, labelSelector=PRODUCT)).get("items") or []
    except ApiError as error:
        if error.status in (0, 401):
            raise
        found = []
    return str(found[0]["metadata"]["namespace"]) if found else Documents().system


async def _clock(client: Client) -> datetime.datetime | None:
    """Return the API server's time, None where it may not be asked; the user's machine may have any."""
    try:
        return await api_time(client)
    except ApiError as error:
        if error.status in (0, 401):
            raise
        return None


async def _read(client: Client, source: Source, namespace: str) -> tuple[Document, ...] | str | None:
    """Return the objects of a kind, why they may not be read, or None where the API server has no such kind."""
    query = {"labelSelector": source.selector} if source.selector else {}
    for resource in source.resources():
        try:
            if source.names:
                found = await asyncio.gather(*(_one(client, resource, name) for name in source.names))
                return tuple({**item, "kind": source.kind} for item in found if item is not None)
            answer = await client.listing(resource.within(namespace), **query)
        except ApiError as error:
            if error.status in (0, 401):
                raise
            if error.not_found:
                continue
            return str(error)
        kind = {"apiVersion": resource.api_version, "kind": source.kind}
        return tuple({**kind, **item} for item in answer.get("items") or [])
    return None


async def _one(client: Client, resource: Resource, name: str) -> Document | None:
    try:
        return await client.get(resource, name)
    except ApiError as error:
        if error.not_found:
            return None
        raise
