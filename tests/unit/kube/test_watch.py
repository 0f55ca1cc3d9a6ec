"""A watch survives what API servers do, and reports what happened while it was down."""

import asyncio

import pytest

from vfio_ap_kube import watch
from vfio_ap_kube.client import NODES
from vfio_ap_kube.watch import Change, follow


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(watch, "_RETRY", (0.001, 0.001))


async def take(stream, count):
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


def names(changes):
    return [
        ("synced" if c.synced else ("-" if c.deleted else "+") + c.object["metadata"]["name"]) for c in changes
    ]


async def test_list_then_changes(api, client):
    api.put("a")
    stream = follow(client, NODES)
    assert names(await take(stream, 2)) == ["+a", "synced"]
    task = asyncio.ensure_future(take(stream, 2))
    since, events = await api.watches.get()
    assert since == "2"
    await events.put({"type": "ADDED", "object": api.put("b")})
    await events.put({"type": "DELETED", "object": api.objects["a"]})
    assert names(await task) == ["+b", "-a"]


async def test_a_deletion_during_an_outage_is_reported(api, client):
    api.put("a")
    api.put("b")
    stream = follow(client, NODES)
    await take(stream, 3)
    task = asyncio.ensure_future(take(stream, 3))
    _, events = await api.watches.get()
    del api.objects["a"]
    api.put("c")
    await events.put({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
    assert names(await task) == ["-a", "+c", "synced"]


async def test_a_watch_that_ends_goes_on_from_where_it_was(api, client):
    api.put("a")
    stream = follow(client, NODES)
    await take(stream, 2)
    task = asyncio.ensure_future(take(stream, 1))
    _, events = await api.watches.get()
    await events.put({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}})
    await events.put(None)
    since, events = await api.watches.get()
    assert since == "77"
    await events.put({"type": "MODIFIED", "object": api.put("a")})
    assert names(await task) == ["+a"]


async def test_an_unchanged_object_is_not_reported_again(api, client):
    api.put("a")
    stream = follow(client, NODES)
    await take(stream, 2)
    task = asyncio.ensure_future(take(stream, 1))
    _, events = await api.watches.get()
    await events.put({"type": "ERROR", "object": {"code": 410}})
    assert await task == [Change(synced=True)]


async def test_refusals_and_outages_are_outlasted(api, client):
    api.fail = [500, 403, 429]
    api.put("a")
    assert names(await take(follow(client, NODES), 2)) == ["+a", "synced"]
    assert len(api.requests) == 4


async def test_selectors_are_the_servers_work(api, client):
    stream = follow(client, NODES, fieldSelector="metadata.name=n1")
    await take(stream, 1)
    task = asyncio.ensure_future(anext(stream))
    _, events = await api.watches.get()
    assert all(query["fieldSelector"] == "metadata.name=n1" for _, _, query, _ in api.requests)
    await events.put({"type": "ADDED", "object": api.put("n1")})
    await task
