"""The demo's course: a cluster, two matrices, a third that contradicts them, and a look at every node."""

from __future__ import annotations

import asyncio
from pathlib import Path

from vfio_ap_sim.cluster import SYSTEM, SimCluster
from vfio_ap_sim.cluster.simcluster import MATRICES, condition, matrix
from vfio_ap_sim.demo import proof
from vfio_ap_sim.demo.grids import grid
from vfio_ap_sim.demo.machines import LABELS, MACHINES
from vfio_ap_sim.demo.stage import Stage

_CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
_GUEST1 = matrix(
    "guest1",
    adapters=[5, 6],
    domains=[4, "0xab"],
    allowedNamespaces=["bank"],
    placement="Everywhere",
    nodeSelector={"zone": "payments"},
)
_GUEST2 = matrix(
    "guest2", adapters=[5], domains=["0x47", "0xff"], allowedNamespaces=["bank"], placement="Everywhere"
)
_GUEST3 = matrix("guest3", adapters=[6], domains=["0xab"], allowedNamespaces=["bank"], placement="Everywhere")


async def play(stage: Stage, *, keep: bool, interrupted: asyncio.Event) -> None:
    """Run the demo. Raises what its steps raise; leaves nothing behind."""
    stage.say("a real control plane: etcd, kube-apiserver, kube-scheduler, kube-controller-manager")
    async with SimCluster(_CHART) as cluster:
        stage.say(f"control plane ready at {cluster.plane.url}")
        with stage.step("helm install vfio-ap: CRDs, rights, policies, operator, agents"):
            await cluster.install()
            await cluster.plane.kubectl("create", "namespace", "bank")
        with stage.step("three simulated IBM Z nodes: kernel model and played kubelet, real agents and operator"):
            await asyncio.gather(*(cluster.add_node(n, MACHINES[n], labels=LABELS[n]) for n in MACHINES))
            await cluster.reported(*MACHINES)
        await _table(stage, cluster, "get", "apnodes")
        await _matrices(stage, cluster)
        await _grids(stage, cluster)
        await _proof(stage, cluster)
        if keep:
            await _keep(stage, cluster, interrupted)
        stage.say("stopping everything")


async def _matrices(stage: Stage, cluster: SimCluster) -> None:
    with stage.step("kubectl apply: APMatrix guest1 (5,6 x 4,0xab) for two nodes, guest2 (5 x 0x47,0xff) for all"):
        await cluster.apply(_GUEST1)
        await cluster.apply(_GUEST2)
        await cluster.ready("guest1", "guest2")
    with stage.step("kubectl apply: APMatrix guest3 (6 x 0xab), which wants a queue of guest1"):
        await cluster.apply(_GUEST3)
        refused = await cluster.until(MATRICES, "guest3", lambda d: condition(d, "Accepted") == "False", "refused")
    reason = next(c["message"] for c in refused["status"]["conditions"] if c["type"] == "Accepted")
    stage.say(f"refused: {reason}")
    await _table(stage, cluster, "get", "apmatrices")
    await _table(stage, cluster, "get", "apnodes")


async def _grids(stage: Stage, cluster: SimCluster) -> None:
    for name, node in sorted(cluster.nodes.items()):
        stage.say(f"node {name}, adapter x domain, read from its sysfs")
        stage.show(await grid(node))


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


async def _table(stage: Stage, cluster: SimCluster, *arguments: str) -> None:
    stage.say(f"$ kubectl {' '.join(arguments)}")
    stage.show(await cluster.plane.kubectl(*arguments))


async def _keep(stage: Stage, cluster: SimCluster, interrupted: asyncio.Event) -> None:
    plane = cluster.plane
    stage.say("everything stays up until Ctrl-C; in another terminal:")
    stage.show(f"export KUBECONFIG={plane.kubeconfig} PATH={plane.binaries['kubectl'].parent}:$PATH")
    stage.show(f"kubectl get ap; kubectl describe apmatrix guest3; kubectl -n {SYSTEM} get pods")
    for name, node in sorted(cluster.nodes.items()):
        stage.show(f"vfio-ap-agent inventory --sysfs unix:{node.socket}    # {name}")
    try:
        await interrupted.wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and interrupted.is_set():
            task.uncancel()
