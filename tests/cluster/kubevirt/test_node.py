"""What virt-handler does to its node."""

from dataclasses import replace

import pytest

from vfio_ap_kube.client import NODES

from .conftest import SETTINGS
from .site import vmi, with_device

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def test_the_node_says_that_guests_may_come(site):
    allocatable = "devices.kubevirt.io/kvm"
    node = await site.cluster.until(
        NODES, "kv1", lambda d: allocatable in d["status"]["allocatable"], "offering kvm"
    )
    labels, annotations = node["metadata"]["labels"], node["metadata"]["annotations"]
    assert labels["kubevirt.io/schedulable"] == "true"
    assert labels["machine-type.node.kubevirt.io/s390-ccw-virtio"] == "true"
    assert "kubevirt.io/heartbeat" in annotations
    assert node["status"]["allocatable"][allocatable] == "1k"


async def test_without_a_guard_foreign_mdevs_are_removed_and_with_one_they_stay(site):
    device = site.device("swept")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    await site.boot(with_device("swept", device))
    listed = {"mdevNameSelector": "VFIO AP Passthrough Device", "resourceName": "ap.example.com/any"}
    kept = {"mediatedDevices": [{**listed, "externalResourceProvider": True}]}
    try:
        await site.kubevirt.configure(replace(SETTINGS, mediated_devices=None, permitted_host_devices=kept))
        assert site.users(device) == {"kv1": "default_swept", "kv2": None}
        ours = {"mediatedDevices": [listed]}
        await site.kubevirt.configure(replace(SETTINGS, mediated_devices=None, permitted_host_devices=ours))
        assert site.users(device) == {}
    finally:
        await site.kubevirt.configure(SETTINGS)
    assert await site.running_on("swept") == "kv1", "KubeVirt noticed that the guest lost its device"


async def test_a_virt_handler_that_comes_back_knows_its_guests_and_starts_those_that_wait(site):
    kept, late = vmi("kept"), vmi("late")
    for document in (kept, late):
        document["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "old"}
    await site.boot(kept)
    handler = site.kubevirt.handlers["old"]
    await handler.stop()
    try:
        node = await site.cluster.client.get(NODES, "old")
        assert node["metadata"]["labels"]["kubevirt.io/schedulable"] == "false"
        await site.create(late)
        await site.vmi("late", lambda d: d["status"].get("phase") == "Scheduling", "waiting for a node")
        assert site.guests()["old"] == ["default_kept"]
    finally:
        await handler.start()
    assert await site.running_on("late") == "old"
    assert await site.running_on("kept") == "old"
    assert sorted(site.guests()["old"]) == ["default_kept", "default_late"]
