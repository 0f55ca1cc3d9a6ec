"""The placement gate with pods as KubeVirt makes them: prepared on demand, let go, held, released."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_kube.client import PODS, Client
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, condition, matrix

from .looks import event, mdevs
from .test_crashes import kill

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
CONTROLLER = "system:serviceaccount:kubevirt:kubevirt-controller"
BANK = PODS.within("bank")


@dataclass
class Launchers:
    """Makes launcher pods as KubeVirt's controller does, and takes them away."""

    cluster: object
    client: Client

    async def make(self, name, of, *, vmi="vmi1", target=False):
        labels = {"ap.s390x.io/matrix": of, "kubevirt.io/created-by": vmi, "vm.kubevirt.io/name": vmi}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "bank", "labels": labels, "annotations": {}},
            "spec": {
                "schedulingGates": [{"name": "ap.s390x.io/placement"}],
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {"name": "compute", "image": "launcher", "resources": {"limits": {f"ap.s390x.io/{of}": "1"}}}
                ],
            },
        }
        if target:
            labels["kubevirt.io/migrationJobUID"] = "job-1"
            # Held by its sidecar, which admission looks for
            document["spec"]["containers"].append({"name": "hook-sidecar-0", "image": "vfio-ap-hook:0.1.0"})
        return await self.client.create(BANK, document)

    async def until(self, name, holds, what):
        return await self.cluster.until(BANK, name, holds, what, limit=120)

    async def end(self, name):
        await self.cluster.client.delete(BANK, name)
        await self.cluster.gone(BANK, name)


@pytest_asyncio.fixture(loop_scope="package")
async def launchers(cluster):
    """KubeVirt's controller may create pods in the namespace; what a test leaves is deleted."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "played-kubevirt-controller"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "kubevirt-controller", "namespace": "kubevirt"}],
    }
    await cluster.plane.kubectl("apply", "-f", "-", stdin=json.dumps(binding))
    path = Path(cluster.plane.client_kubeconfig(CONTROLLER, ["system:serviceaccounts"]))
    async with Client(from_kubeconfig(path), manager="virt-controller") as client:
        yield Launchers(cluster, client)
    with contextlib.suppress(Exception):
        await cluster.plane.kubectl("delete", "pods", "--all", "-n", "bank", "--force", "--timeout=30s")


def on_demand(name, adapters, domains, **more):
    return matrix(name, adapters=adapters, domains=domains, allowedNamespaces=["bank"], **more)


async def available(cluster, name):
    return await cluster.until(MATRICES, name, lambda d: condition(d, "Ready") == "True", "available")


def running(pod):
    return pod["status"].get("phase") == "Running"


def holders(cluster, uuid):
    return {name for name, node in cluster.nodes.items() if uuid in mdevs(node)}


async def test_a_device_is_made_where_a_pod_needs_it_and_goes_with_the_pod(cluster, launchers):
    await cluster.apply(on_demand("wanted", [5], [4]))
    uuid = (await available(cluster, "wanted"))["status"]["uuid"]
    assert holders(cluster, uuid) == set()
    await launchers.make("launcher-1", "wanted")
    pod = await launchers.until("launcher-1", running, "running")
    assert pod["spec"].get("nodeSelector", {}).get("kubernetes.io/hostname") is None
    node = pod["spec"]["nodeName"]
    # After an outage of the API server the scheduler does not see the resource for half a minute: the pod seems
    # to fit nowhere, and further nodes are prepared for it. What was prepared in vain is given back.
    for other in cluster.nodes.keys() - {node}:
        await cluster.until(APNODES, other, lambda d: not d["status"].get("mdevs"), "without a device")
    assert holders(cluster, uuid) == {node}
    (held,) = cluster.nodes[node].kubelet.held("bank", "launcher-1", "compute")
    assert held.envs == {"MDEV_PCI_RESOURCE_AP_S390X_IO_WANTED": uuid}
    assert "prepared" in await event(cluster, "launcher-1", "GateLifted", namespace="bank")
    await cluster.until(MATRICES, "wanted", lambda d: d["status"]["usedBy"] == "bank/vmi1", "used")
    await launchers.end("launcher-1")
    await cluster.until(APNODES, node, lambda d: not d["status"].get("mdevs"), "without the device")
    assert holders(cluster, uuid) == set()


async def test_one_vm_has_a_matrix_at_a_time(cluster, launchers):
    await cluster.apply(on_demand("single", [5], [4]))
    await available(cluster, "single")
    await launchers.make("first", "single", vmi="vmi1")
    await launchers.until("first", running, "running")
    await launchers.make("second", "single", vmi="vmi2")
    assert "bank/vmi1" in await event(cluster, "second", "MatrixInUse", namespace="bank")
    pod = await cluster.client.get(BANK, "second")
    assert pod["spec"]["schedulingGates"] == [{"name": "ap.s390x.io/placement"}]
    await launchers.end("first")
    await launchers.until("second", running, "running")


async def test_a_migration_target_is_pinned_prepared_and_its_hold_lifted(cluster, launchers):
    await cluster.apply(on_demand("moves", [5], [4]))
    uuid = (await available(cluster, "moves"))["status"]["uuid"]
    await launchers.make("source", "moves")
    source = (await launchers.until("source", running, "running"))["spec"]["nodeName"]
    await launchers.make("target", "moves", target=True)
    pod = await launchers.until(
        "target", lambda p: p["metadata"]["annotations"]["ap.s390x.io/hold"] == "lifted", "released"
    )
    target = pod["spec"]["nodeName"]
    assert target != source
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": target}
    assert holders(cluster, uuid) == {source, target}
    await launchers.end("source")
    await cluster.until(APNODES, source, lambda d: not d["status"].get("mdevs"), "released")
    assert holders(cluster, uuid) == {target}


async def test_an_operator_killed_while_a_pod_waits_goes_on(cluster, launchers):
    await cluster.apply(on_demand("patient", [5], [4]))
    await available(cluster, "patient")
    await kill(cluster, "operator")
    await launchers.make("waits", "patient")
    await kill(cluster, "operator")
    await launchers.until("waits", running, "running")


async def test_a_pod_that_no_node_can_take_hears_why(cluster, launchers):
    await cluster.apply(on_demand("nowhere", [5], [4]))
    await available(cluster, "nowhere")
    await cluster.apply(on_demand("nowhere", [99], [4]))
    await cluster.until(MATRICES, "nowhere", lambda d: "QueueAbsent" in d["status"].get("state", ""), "nowhere")
    await launchers.make("homeless", "nowhere")
    message = await event(cluster, "homeless", "NoNode", namespace="bank")
    assert "n1: the node has no adapters 99" in message
