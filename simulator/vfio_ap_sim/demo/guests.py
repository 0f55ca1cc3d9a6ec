"""The demo's second act: one annotation gives a VM its crypto."""

from __future__ import annotations

import asyncio

from vfio_ap_kube.client import Document
from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.cluster.simcluster import condition
from vfio_ap_sim.demo import proof
from vfio_ap_sim.demo.devices import table
from vfio_ap_sim.demo.proof import Expected
from vfio_ap_sim.demo.stage import Stage
from vfio_ap_sim.kubevirt.api import VMIS

NAMESPACE = "bank"
MATRIX_OF = {"ledger": "guest1", "teller": "guest2"}
"""The matrix of each VM."""


async def act(stage: Stage, cluster: SimCluster) -> dict[str, Expected]:
    """Play the act; return what each VM has. Raises MismatchError, TookTooLongError and CommandFailedError."""
    stage.headline("VirtualMachines: one annotation on the template, ap.s390x.io/matrix")
    with stage.step("kubectl apply: VM ledger with matrix guest1, VM teller with guest2"):
        for name in MATRIX_OF:
            await cluster.apply(_vm(name))
        await asyncio.gather(*(running(cluster, name) for name in MATRIX_OF))
    await table(stage, cluster, "get", "vm,vmi", "-n", NAMESPACE)
    await table(stage, cluster, "get", "apmatrices")
    stage.say("what the node's own sysfs says:")
    found = {}
    for name, matrix in MATRIX_OF.items():
        node = (await running(cluster, name))["status"]["nodeName"]
        (document,) = await cluster.ready(matrix)
        found[name] = proof.expected(document, [node])
        stage.show(await proof.in_use(cluster.nodes[node], found[name], guest(name)))
    return found


def guest(name: str) -> str:
    """Return the name of a VM's guest, as libvirt and the modelled kernel know it."""
    return f"{NAMESPACE}_{name}"


async def running(cluster: SimCluster, name: str, *, elsewhere: str = "") -> Document:
    """Return the VMI once it runs and can be migrated, on another node than ``elsewhere``."""

    def holds(vmi: Document) -> bool:
        status = vmi.get("status", {})
        fine = status.get("phase") == "Running" and condition(vmi, "LiveMigratable") == "True"
        return fine and status.get("nodeName") != elsewhere

    return await cluster.until(VMIS.within(NAMESPACE), name, holds, "running")


def _vm(name: str) -> Document:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": {"annotations": {"ap.s390x.io/matrix": MATRIX_OF[name]}},
                "spec": {
                    "domain": {
                        "memory": {"guest": "1Gi"},
                        "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
                    },
                    "networks": [{"name": "default", "pod": {}}],
                },
            },
        },
    }
