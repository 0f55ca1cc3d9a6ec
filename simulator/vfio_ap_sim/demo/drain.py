"""The demo's third act: a node is drained, and its VMs leave with their crypto or say why they cannot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.cluster.simcluster import APNODES
from vfio_ap_sim.demo import guests, proof
from vfio_ap_sim.demo.devices import table
from vfio_ap_sim.demo.grids import grid
from vfio_ap_sim.demo.news import News
from vfio_ap_sim.demo.proof import Expected
from vfio_ap_sim.demo.stage import Stage

_SOURCE, _TARGET, _WRONG = "lnx1", "lnx2", "lnx3"
_DRAIN = ("--ignore-daemonsets", "--delete-emptydir-data")
_LIMIT = 120.0
"""Seconds that the drain may take; KubeVirt lets a guest go in some, kubectl asks again every five."""


async def act(stage: Stage, cluster: SimCluster, before: Mapping[str, Expected], news: News) -> None:
    """Play the act with the VMs as they were. Raises MismatchError, TookTooLongError and CommandFailedError."""
    stage.headline(f"kubectl drain {_SOURCE}: the VMs leave with their crypto")
    if {node for item in before.values() for node in item.nodes} != {_SOURCE}:
        raise proof.MismatchError(f"not all VMs run on {_SOURCE}: {before}")
    await cluster.plane.kubectl("cordon", _TARGET)
    stage.say(f"$ kubectl cordon {_TARGET}      (so that only {_WRONG} is left, whose adapter 5 is in EP11 mode)")
    stage.say(f"$ kubectl drain {_SOURCE} {' '.join(_DRAIN)}")
    async with _draining(cluster) as drained:
        ledger, teller = [await news.told(name, "NoTarget") for name in ("ledger", "teller")]
        for message, why in (
            (ledger, "spec.nodeSelector"),
            (teller, "queue 05.0047: mode: CCA on lnx1, EP11 on lnx3"),
        ):
            if f"{_WRONG}: {why}" not in message:
                raise proof.MismatchError(f"node {_WRONG} is not refused with its reason ({why}): {message}")
        stage.say("the drain waits: no node that is left can take the guests' queues")
        stage.say(f"$ kubectl uncordon {_TARGET}")
        await cluster.plane.kubectl("uncordon", _TARGET)
        await asyncio.gather(*(guests.running(cluster, n, elsewhere=_SOURCE) for n in guests.MATRIX_OF))
        await asyncio.gather(*(news.told(name, "MoveSucceeded") for name in guests.MATRIX_OF))
        stage.say(f"  {await drained}")
    await cluster.until(APNODES, _SOURCE, lambda d: not d["status"].get("mdevs"), "without a device")
    for name in cluster.nodes:
        await cluster.until(APNODES, name, lambda d: d["status"]["summary"]["state"] == "Ready", "in order")
    for kind in ("apmatrices", "apnodes", "apmigrations -n bank"):
        await table(stage, cluster, "get", *kind.split())
    await _proof(stage, cluster, before)


@contextlib.asynccontextmanager
async def _draining(cluster: SimCluster) -> AsyncIterator[asyncio.Task[str]]:
    """Run ``kubectl drain``; the task returns its last line. It ends with the block."""
    process = await asyncio.create_subprocess_exec(
        cluster.plane.binaries["kubectl"],
        f"--kubeconfig={cluster.plane.kubeconfig}",
        "drain",
        _SOURCE,
        *_DRAIN,
        f"--timeout={_LIMIT:.0f}s",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def ended() -> str:
        output, errors = await process.communicate()
        if process.returncode:
            raise proof.MismatchError(f"kubectl drain ended with {process.returncode}: {errors.decode().strip()}")
        return output.decode().strip().splitlines()[-1]

    task = asyncio.create_task(ended())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(task, return_exceptions=True)


async def _proof(stage: Stage, cluster: SimCluster, before: Mapping[str, Expected]) -> None:
    stage.say(f"what the sysfs of the nodes says: UUIDs and queues are those of {_SOURCE} before")
    for name, item in before.items():
        stage.show(await proof.in_use(cluster.nodes[_TARGET], item, guests.guest(name)))
    stage.show(await proof.no_other_device(cluster.nodes[_TARGET], before.values()))
    stage.show(await grid(cluster.nodes[_TARGET]))
    for node in (_SOURCE, _WRONG):
        stage.show(await proof.nothing(cluster.nodes[node]))
