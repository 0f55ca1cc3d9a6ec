"""Beside a KubeVirt that would delete the devices nothing is made, until the patch in the message is applied."""

import json
import shlex

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster.simcluster import MATRICES

from .looks import event, everywhere, mdevs

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def crd(kind, schema):
    singular = kind.lower()
    names = {"kind": kind, "plural": f"{singular}s", "singular": singular, "listKind": f"{kind}List"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.kubevirt.io"},
        "spec": {"group": "kubevirt.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def of_vmis(*path):
    """KubeVirt's definition of a VMI, as far as a path of fields."""
    schema = {"type": "string"}
    for name in reversed(path):
        schema = {"type": "object", "properties": {name: schema}}
    return crd("VirtualMachineInstance", schema)


KUBEVIRT = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "KubeVirt",
    "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
    "spec": {"configuration": {"developerConfiguration": {"featureGates": ["Mine"]}}},
}


@pytest_asyncio.fixture(loop_scope="package")
async def unsafe_kubevirt(cluster):
    definitions = [crd("KubeVirt", ANYTHING), of_vmis("spec", "domain", "memory")]
    for definition in definitions:
        await cluster.apply(definition)
    names = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    await cluster.plane.kubectl("wait", "--for=condition=Established", *names)
    await cluster.plane.kubectl("create", "namespace", "kubevirt")
    await cluster.plane.kubectl("apply", "-f", "-", stdin=json.dumps(KUBEVIRT))
    yield
    await cluster.plane.kubectl("delete", "kubevirt", "-n", "kubevirt", "--all", "--ignore-not-found")
    await cluster.plane.kubectl("delete", "namespace/kubevirt", *names)


async def test_nothing_is_made_until_kubevirt_is_new_enough_and_the_patch_in_the_message_is_applied(
    cluster, unsafe_kubevirt
):
    told = await event(cluster, "kubevirt", "KubeVirtTooOld", namespace="kubevirt")
    assert "upgrade KubeVirt to 1.8 or newer" in told
    await cluster.apply(of_vmis("spec", "domain", "memory", "reservedOverhead", "memLock"))
    assert "would delete the devices" in await event(cluster, "kubevirt", "KubeVirtUnsafe", namespace="kubevirt")
    await cluster.apply(everywhere("guarded", [6], [4]))
    document = await cluster.until(
        MATRICES, "guarded", lambda d: d.get("status", {}).get("state") == "Pending (KubeVirtUnsafe)", "guarded"
    )
    assert not any("06.0004" in queues for node in cluster.nodes.values() for queues in mdevs(node).values())
    message = next(c["message"] for c in document["status"]["conditions"] if c["type"] == "Ready")
    command = shlex.split(message[message.index("kubectl patch") :])
    await cluster.plane.kubectl(*command[1:])
    await cluster.ready("guarded")
