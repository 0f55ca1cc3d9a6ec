"""Beside a KubeVirt that would delete the devices nothing is made, until the patch in the message is applied."""

import json
import shlex

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster.simcluster import MATRICES

from .looks import event, everywhere, mdevs

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kubevirts.kubevirt.io"},
    "spec": {
        "group": "kubevirt.io",
        "scope": "Namespaced",
        "names": {"kind": "KubeVirt", "plural": "kubevirts", "singular": "kubevirt", "listKind": "KubeVirtList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
KUBEVIRT = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "KubeVirt",
    "metadata": {"name": "kubevirt", "namespace": "bank"},
    "spec": {"configuration": {"developerConfiguration": {"featureGates": ["Mine"]}}},
}


@pytest_asyncio.fixture(loop_scope="package")
async def unsafe_kubevirt(cluster):
    await cluster.apply(CRD)
    await cluster.plane.kubectl("wait", "--for=condition=Established", "crd/kubevirts.kubevirt.io")
    await cluster.plane.kubectl("apply", "-f", "-", stdin=json.dumps(KUBEVIRT))
    yield
    await cluster.plane.kubectl("delete", "kubevirt", "-n", "bank", "--all", "--ignore-not-found")
    await cluster.plane.kubectl("delete", "crd", "kubevirts.kubevirt.io")


async def test_nothing_is_made_until_the_patch_in_the_message_is_applied(cluster, unsafe_kubevirt):
    assert "would delete the devices" in await event(cluster, "kubevirt", "KubeVirtUnsafe", namespace="bank")
    await cluster.apply(everywhere("guarded", [6], [4]))
    document = await cluster.until(
        MATRICES, "guarded", lambda d: d.get("status", {}).get("state") == "Pending (KubeVirtUnsafe)", "guarded"
    )
    assert not any("06.0004" in queues for node in cluster.nodes.values() for queues in mdevs(node).values())
    message = next(c["message"] for c in document["status"]["conditions"] if c["type"] == "Ready")
    command = shlex.split(message[message.index("kubectl patch") :])
    await cluster.plane.kubectl(*command[1:])
    await cluster.ready("guarded")
