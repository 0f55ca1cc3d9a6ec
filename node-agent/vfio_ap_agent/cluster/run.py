"""Wiring of the agent in a cluster: its tasks, its signals, its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from vfio_ap.host.kernellog import meaning
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.cluster.agent import NodeAgent
from vfio_ap_agent.cluster.announce import Said
from vfio_ap_agent.cluster.health import Health, serve
from vfio_ap_agent.cluster.logs import OneLine
from vfio_ap_agent.cluster.outlet import ClusterOutlet
from vfio_ap_agent.cluster.publish import APNODES, Publisher
from vfio_ap_agent.host.client import open_host
from vfio_ap_agent.host.events import kernel_log, uevents
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
from vfio_ap_agent.triggers import Triggers
from vfio_ap_agent.vigil import keep_vigil
from vfio_ap_kube.client import Client
from vfio_ap_kube.credentials import CredentialsError, load
from vfio_ap_kube.lease import Heartbeat
from vfio_ap_kube.watch import follow

_LOG = logging.getLogger(__name__)
_MANAGER = "vfio-ap-agent"
_GRACE = 12.0
"""Seconds that a pass in progress gets to finish after SIGTERM."""


def run_agent(args: argparse.Namespace, lock: Path | None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(datefmt="%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, handlers=[handler])
    if not args.node_name:
        _LOG.critical("the node's name is missing; set NODE_NAME or --node-name")
        return 2
    try:
        return asyncio.run(_serve(args, lock))
    except CredentialsError as error:
        _LOG.critical("no way to the API server: %s", error)
        return 2


async def _serve(args: argparse.Namespace, lock: Path | None) -> int:
    name: str = args.node_name
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state_dir = StateDir(args.state_dir)
    ours, samples = OursFile(state_dir), Samples(state_dir)
    triggers, health = Triggers(args.period), Health(args.period)
    host = open_host(args.sysfs)
    applier = Applier(host, ours, samples, lock, args.queue_control)
    kubelet_dir = None if args.kubelet_dir == "none" else Path(args.kubelet_dir)
    async with Client(load(args.kubeconfig), manager=_MANAGER, connections=4) as client:
        publisher = Publisher(client, name, lambda: triggers.pull("missing"))
        outlet = ClusterOutlet(client, name, publisher, kubelet_dir)
        outlet.prove_by(applier)
        agent = NodeAgent(host, applier, samples, state_dir, outlet, triggers, health)
        served = await serve(health, args.health_address, args.health_port) if args.health_port >= 0 else None
        helpers = [
            _spawn(_watch(client, name, agent, outlet, publisher, health)),
            _spawn(publisher.run()),
            _spawn(_heartbeat(agent, Heartbeat(client, args.namespace, name))),
            _spawn(outlet.post_events()),
            _spawn(triggers.follow(uevents(args.sysfs))),
            _spawn(_kernel_log(args.sysfs, agent, outlet, triggers)),
            _spawn(outlet.serve_kubelet()),
            _spawn(_kubelet_news(outlet, triggers)),
            _spawn(keep_vigil(host, lambda: agent.last, lambda: triggers.pull("vigil"))),
        ]
        loop_task = _spawn(agent.run(stop))
        try:
            code = await _until_stopped(stop, loop_task, helpers)
        finally:
            for task in (*helpers, loop_task):
                task.cancel()
            await asyncio.gather(*helpers, loop_task, return_exceptions=True)
            with contextlib.suppress(OSError):
                await outlet.close()
            if served is not None:
                served.close()
            await host.close()
    return code


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


async def _until_stopped(
    stop: asyncio.Event, loop_task: asyncio.Task[None], helpers: list[asyncio.Task[None]]
) -> int:
    """Return 0 after a signal, 1 when a task broke: then the process ends and is started anew."""
    signalled = _spawn(_signal(stop))
    try:
        pending = {signalled, loop_task, *helpers}
        while not stop.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not signalled and (error := task.exception()) is not None:
                    _LOG.critical("a task broke", exc_info=error)
                    return 1
        _LOG.info("stopping; devices stay as they are")
        await asyncio.wait({loop_task}, timeout=_GRACE)
        return 0
    finally:
        signalled.cancel()


async def _signal(stop: asyncio.Event) -> None:
    await stop.wait()


async def _watch(
    client: Client, name: str, agent: NodeAgent, outlet: ClusterOutlet, publisher: Publisher, health: Health
) -> None:
    """Follow our own APNode."""
    async for change in follow(client, APNODES, fieldSelector=f"metadata.name={name}"):
        health.watching = True
        if change.synced:
            agent.sync()
        elif change.deleted:
            publisher.forget()
            agent.lose()
            outlet.know("")
        else:
            outlet.know(str(change.object["metadata"].get("uid", "")))
            publisher.learn(change.object.get("status") or {})
            agent.observe(change.object)
            outlet.wish(agent.desired)


async def _heartbeat(agent: NodeAgent, heartbeat: Heartbeat) -> None:
    """Renew the Lease once there is an APNode; a node without an AP bus has neither."""
    await agent.known.wait()
    await heartbeat.run()


async def _kernel_log(where: str, agent: NodeAgent, outlet: ClusterOutlet, triggers: Triggers) -> None:
    """Turn log lines of vfio_ap into Events, and keep those of devices that move."""
    async for line in kernel_log(where):
        agent.hear(line.text)
        if (refusal := meaning(line.text)) is not None:
            triggers.pull("kernel log")
            outlet.say([Said("Warning", refusal.reason, str(refusal))])


async def _kubelet_news(outlet: ClusterOutlet, triggers: Triggers) -> None:
    """Look again when a resource was registered or lost, so that ``offered`` says what is."""
    while True:
        await outlet.changed.wait()
        outlet.changed.clear()
        triggers.pull("kubelet")
