"""A played cluster with KubeVirt, a VM that runs with a matrix, one that waits, and a matrix that is refused."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.cluster.simcluster import MATRICES, condition, is_ready, matrix
from vfio_ap_sim.controlplane import BinaryUnavailableError
from vfio_ap_sim.kernel import machine_from
from vfio_ap_sim.kubevirt import KubeVirt
from vfio_ap_sim.kubevirt.api import VMIS

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
NODES = {"lnx1": "CEX8C", "lnx2": "CEX8C", "lnx3": "CEX8P"}
"""Nodes, and the type of their adapter 5: the last one is in EP11 mode."""


def lpar(name, kind):
    return machine_from(
        {
            "name": name,
            "machine": {"sequence": f"00000000000{name.upper():0>5}"[-16:], "lpar": name.upper()},
            "adapters": [{"id": 5, "type": kind, "keys": "bank"}, {"id": 6, "type": "CEX8C", "keys": "bank"}],
            "usageDomains": "0-15",
        }
    )


def vm(name, of):
    template = {
        "metadata": {"annotations": {"ap.s390x.io/matrix": of}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "domain": {
                "memory": {"guest": "128Mi"},
                "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
            },
            "networks": [{"name": "default", "pod": {}}],
        },
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "bank"},
        "spec": {"runStrategy": "Always", "template": template},
    }


@dataclass(frozen=True)
class Said:
    """What a run of the program said."""

    code: int
    out: str
    err: str


class Terminal:
    """Somebody at a terminal of this cluster."""

    def __init__(self, cluster: SimCluster, kubeconfig: Path) -> None:
        self.cluster = cluster
        programs = [str(Path(sys.executable).parent), str(cluster.plane.binaries["kubectl"].parent)]
        path = os.pathsep.join([*programs, os.environ["PATH"]])
        cache = str(cluster.plane.run_dir / "kube" / "terminal")
        self._environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": cache, "PATH": path}

    async def run(self, *words: str, columns: int = 0, cluster: bool = True) -> Said:
        """Run a program; without ``cluster`` it has no way to one."""
        environ = self._environ | ({"COLUMNS": str(columns)} if columns else {})
        environ |= {} if cluster else {"KUBECONFIG": "/nonexistent"}
        process = await asyncio.create_subprocess_exec(
            *words, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def ap(self, *words: str, **more) -> Said:
        return await self.run("kubectl-ap", *words, **more)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster() -> AsyncIterator[SimCluster]:
    """The cluster; tests leave it as it is."""
    found = SimCluster(CHART)
    try:
        await found.__aenter__()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        async with KubeVirt(found.plane) as kubevirt:
            await found.install()
            for name, kind in NODES.items():
                await kubevirt.attach(await found.add_node(name, lpar(name, kind), profile="MIGv4PLUS"))
            await found.plane.kubectl("create", "namespace", "bank")
            await found.reported(*NODES)
            await _inhabit(found)
            yield found
    finally:
        await found.__aexit__()


async def _inhabit(cluster: SimCluster) -> None:
    await cluster.apply(matrix("payments", adapters=[5], domains=[4], allowedNamespaces=["bank"]))
    await cluster.until(MATRICES, "payments", is_ready, "available")
    await cluster.apply(vm("ledger", "payments"))
    await cluster.until(
        VMIS.within("bank"), "ledger", lambda d: d.get("status", {}).get("phase") == "Running", "running"
    )
    await cluster.until(MATRICES, "payments", lambda d: d["status"]["usedBy"] == "bank/ledger", "used")
    await cluster.apply(matrix("greedy", adapters=[5, 6], domains=[4], allowedNamespaces=["bank"]))
    await cluster.until(MATRICES, "greedy", lambda d: condition(d, "Accepted") == "False", "refused")
    await cluster.apply(vm("second", "payments"))
    await cluster.until(
        VMIS.within("bank"), "second", lambda d: d.get("status", {}).get("phase") == "Scheduling", "waiting"
    )


@pytest.fixture
def terminal(cluster: SimCluster) -> Terminal:
    """The administrator's terminal."""
    return Terminal(cluster, cluster.plane.kubeconfig)
