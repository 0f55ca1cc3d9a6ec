"""The demo's course: what is started, the acts in their order, and what may be tried afterwards."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane.tools import KUBEVIRT
from vfio_ap_sim.demo import devices, drain, guests, keep
from vfio_ap_sim.demo.machines import KERNEL, LABELS, MACHINES
from vfio_ap_sim.demo.news import News
from vfio_ap_sim.demo.stage import Stage
from vfio_ap_sim.kubevirt import KubeVirt

_CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"


async def play(stage: Stage, *, stay: bool, interrupted: asyncio.Event) -> None:
    """Run the demo. Raises what its steps raise; leaves nothing behind."""
    stage.headline("A cluster of three IBM Z nodes")
    stage.say("a real control plane: etcd, kube-apiserver, kube-scheduler, kube-controller-manager")
    async with SimCluster(_CHART) as cluster, AsyncExitStack() as stack:
        stage.say(f"control plane ready at {cluster.plane.url}")
        with stage.step(f"KubeVirt {KUBEVIRT}: real virt-api and virt-controller"):
            kubevirt = await stack.enter_async_context(KubeVirt(cluster.plane))
        await _build(stage, cluster, kubevirt)
        await devices.act(stage, cluster)
        news = await stack.enter_async_context(News(cluster, stage))
        await drain.act(stage, cluster, await guests.act(stage, cluster), news)
        if stay:
            await keep.up(stage, cluster, interrupted)
        interrupted.set()  # from here on Ctrl-C asks for what is done anyway
        stage.say("stopping everything")


async def _build(stage: Stage, cluster: SimCluster, kubevirt: KubeVirt) -> None:
    with stage.step("helm install vfio-ap: CRDs, rights, policies, operator, agents"):
        await cluster.install()
        await cluster.plane.kubectl("create", "namespace", guests.NAMESPACE)
    with stage.step("nodes: modelled kernels, played kubelets and virt-handlers, real operator and agents"):
        await asyncio.gather(*(_add(cluster, kubevirt, name) for name in MACHINES))
        await cluster.reported(*MACHINES)
    await devices.table(stage, cluster, "get", "apnodes")


async def _add(cluster: SimCluster, kubevirt: KubeVirt, name: str) -> None:
    node = await cluster.add_node(name, MACHINES[name], labels=LABELS[name], profile=KERNEL)
    await kubevirt.attach(node)
