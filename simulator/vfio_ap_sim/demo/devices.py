"""The demo's first act: two matrices become equal devices on the nodes, a third that contradicts them does not."""

from __future__ import annotations

import asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, condition, matrix
from vfio_ap_sim.demo import proof
from vfio_ap_sim.demo.grids import grid
from vfio_ap_sim.demo.stage import Stage

_BANK = {"allowedNamespaces": ["bank"], "placement": "Everywhere"}
_GUEST1 = matrix("guest1", adapters=[5, 6], domains=[4, "0xab"], nodeSelector={"zone": "payments"}, **_BANK)
_GUEST2 = matrix("guest2", adapters=[5], domains=["0x47", "0xff"], **_BANK)
_GUEST3 = matrix("guest3", adapters=[6], domains=["0xab"], **_BANK)


async def act(stage: Stage, cluster: SimCluster) -> None:
    """Play the act. Raises MismatchError, TookTooLongError and CommandFailedError."""
    stage.headline("APMatrix: the same device on each node that it names")
    with stage.step("kubectl apply: APMatrix guest1 (5,6 x 4,0xab) for two nodes, guest2 (5 x 0x47,0xff) for all"):
        await cluster.apply(_GUEST1)
        await cluster.apply(_GUEST2)
        await cluster.ready("guest1", "guest2")
    with stage.step("kubectl apply: APMatrix guest3 (6 x 0xab), which wants a queue of guest1"):
        await cluster.apply(_GUEST3)
        refused = await cluster.until(MATRICES, "guest3", lambda d: condition(d, "Accepted") == "False", "refused")
    reason = next(c["message"] for c in refused["status"]["conditions"] if c["type"] == "Accepted")
    stage.say(f"refused: {reason}", hanging=9)
    await table(stage, cluster, "get", "apmatrices")
    await table(stage, cluster, "get", "apnodes")
    for name, node in sorted(cluster.nodes.items()):
        stage.say(f"node {name}, adapter x domain, read from its sysfs")
        stage.show(await grid(node))
    await _proof(stage, cluster)
    await _on_demand(stage, cluster)


async def table(stage: Stage, cluster: SimCluster, *arguments: str) -> None:
    """Show what kubectl says, below its command line."""
    said = await cluster.plane.kubectl(*arguments)  # first, so that no news comes between
    stage.say(f"$ kubectl {' '.join(arguments)}")
    stage.show(said)


async def _proof(stage: Stage, cluster: SimCluster) -> None:
    documents = await cluster.ready("guest1", "guest2")
    guest1 = proof.expected(documents[0], ["lnx1", "lnx2"])
    guest2 = proof.expected(documents[1], ["lnx1", "lnx2", "lnx3"])
    stage.say("what the nodes' own sysfs and the API server say:")
    for name, node in sorted(cluster.nodes.items()):
        here = [item for item in (guest1, guest2) if name in item.nodes]
        for item in here:
            stage.show(await proof.device(node, item))
            stage.show(await proof.allocatable(cluster, name, item))
        stage.show(await proof.no_other_device(node, here))
        stage.show(await proof.masks(node, here))


async def _on_demand(stage: Stage, cluster: SimCluster) -> None:
    """Have devices made only where a VM needs them, and see that the nodes give back what they held."""
    with stage.step("kubectl patch: from now on on demand, a device is only where a VM needs it"):
        patch = '{"spec":{"placement":"OnDemand"}}'
        for name in ("guest1", "guest2"):
            await cluster.plane.kubectl("patch", "apmatrix", name, "--type=merge", "-p", patch)
        waits = (cluster.until(APNODES, n, lambda d: not d["status"].get("mdevs"), "empty") for n in cluster.nodes)
        await asyncio.gather(*waits)
        await cluster.ready("guest1", "guest2")
    for node in cluster.nodes.values():
        stage.show(await proof.nothing(node))
