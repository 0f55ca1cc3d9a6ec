"""A played API server for the client's own manners: lists, watches and leases of one collection."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio
from aiohttp import web

from vfio_ap_kube.client import Client
from vfio_ap_kube.credentials import Credentials


class PlayedApi:
    """Serves objects by path; a watch yields what ``send`` puts in, until ``hang_up``."""

    def __init__(self):
        self.objects = {}
        self.version = 1
        self.requests = []
        self.watches = asyncio.Queue()
        self.fail = []

    def put(self, name, **fields):
        self.version += 1
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.objects[name] = {"metadata": metadata, **fields}
        return self.objects[name]

    async def handle(self, request):
        self.requests.append((request.method, request.path, dict(request.query), dict(request.headers)))
        if self.fail:
            status = self.fail.pop(0)
            return web.json_response({"reason": "Played", "message": f"played {status}"}, status=status)
        if request.query.get("watch"):
            return await self.watch(request)
        name = request.path.rsplit("/", 1)[1]
        if request.method == "GET" and not name.endswith("s"):
            if name not in self.objects:
                return web.json_response({"reason": "NotFound"}, status=404)
            return web.json_response(self.objects[name])
        if request.method in ("POST", "PUT"):
            document = await request.json()
            name = document["metadata"]["name"]
            old = self.objects.get(name)
            sent = document["metadata"].get("resourceVersion")
            if (request.method == "POST" and old) or (old and sent and sent != old["metadata"]["resourceVersion"]):
                return web.json_response({"reason": "Conflict"}, status=409)
            fields = {key: value for key, value in document.items() if key != "metadata"}
            return web.json_response(self.put(name, **fields))
        items = {"metadata": {"resourceVersion": str(self.version)}, "items": list(self.objects.values())}
        return web.json_response(items)

    async def watch(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        events = asyncio.Queue()
        await self.watches.put((request.query["resourceVersion"], events))
        while (event := await events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response


@pytest_asyncio.fixture
async def api() -> AsyncIterator[PlayedApi]:
    played = PlayedApi()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    played.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield played
    await runner.cleanup()


@pytest_asyncio.fixture
async def client(api) -> AsyncIterator[Client]:
    async with Client(Credentials(api.url, None), manager="test") as found:
        yield found
