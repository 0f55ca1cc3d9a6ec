"""Probes against real sockets."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from vfio_ap_sim.kubelet import probes
from vfio_ap_sim.kubelet.probes import Target, passes


@pytest.fixture
async def target(tmp_path: Path):
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.Event().wait()
        if request.path == "/header":
            return web.Response(status=200 if request.headers.get("X-Probe") == "yes" else 400)
        return web.Response(status=int(request.path[1:]), headers={"Location": "/500"})

    app = web.Application()
    app.router.add_get("/{any}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield Target("127.0.0.1", {"PATH": "/usr/bin:/bin"}, tmp_path, {"health": port})
    await runner.cleanup()


@pytest.mark.parametrize(
    ("http", "good"),
    [
        ({"path": "/200"}, True),
        ({"path": "/302"}, True),
        ({"path": "/400"}, False),
        ({"path": "/500"}, False),
        ({"path": "/slow"}, False),
        ({"path": "/header", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}, True),
        ({"path": "/200", "port": "nameless"}, False),
        ({"path": "/200", "scheme": "HTTPS"}, False),
    ],
)
async def test_http(target: Target, http: dict, good: bool):
    timeout = 0.05 if http["path"] == "/slow" else 5
    assert await passes({"httpGet": {"port": "health", **http}, "timeoutSeconds": timeout}, target) == good


async def test_tcp(target: Target):
    assert await passes({"tcpSocket": {"port": "health"}, "timeoutSeconds": 5}, target)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not await passes({"tcpSocket": {"port": unused.getsockname()[1]}, "timeoutSeconds": 5}, target)


@pytest.mark.parametrize(
    ("command", "good"),
    [(["true"], True), (["false"], False), (["no-such-program"], False), (["sleep", "60"], False)],
)
async def test_exec(target: Target, command: list[str], good: bool):
    timeout = 0.05 if command[0] == "sleep" else 5
    assert await passes({"exec": {"command": command}, "timeoutSeconds": timeout}, target) == good


async def test_a_probe_it_does_not_know_does_not_pass(target: Target):
    assert not await passes({"grpc": {"port": 1}}, target)


@pytest.mark.parametrize(
    ("results", "probe", "verdicts"),
    [
        ("-+", {}, [True]),
        ("+--", {}, [True]),
        ("+---", {}, [True, False]),
        ("+----+", {}, [True, False, True]),
        ("++-", {"failureThreshold": 1}, [True, False]),
        ("+-++", {"successThreshold": 2, "failureThreshold": 1}, [False, True]),
    ],
)
async def test_thresholds(monkeypatch: pytest.MonkeyPatch, results: str, probe: dict, verdicts: list[bool]):
    row = iter(results)
    done = asyncio.Event()

    async def passes(*_) -> bool:
        result = next(row, None)
        if result is None:
            done.set()
            await asyncio.Event().wait()
        return result == "+"

    monkeypatch.setattr(probes, "passes", passes)
    heard: list[bool] = []
    task = asyncio.create_task(probes.follow({"periodSeconds": 0, **probe}, None, heard.append))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await done.wait()
    task.cancel()
    assert heard == verdicts
