"""VMs that are not as they should be are refused with what to do, and take nothing from others."""

import json
import sys

import pytest

from vfio_ap_sim.cluster.simcluster import MATRICES
from vfio_ap_sim.controlplane import CommandFailedError
from vfio_ap_sim.kubevirt.api import VMIS

from .people import BANK, vm

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}
HOOKS = "hooks.kubevirt.io/hookSidecars"
SILENT = [sys.executable, "-c", "import time; time.sleep(600)"]
"""Stands for a sidecar that runs and never serves."""


def once(name, of, **template):
    """Return a VM that is not started again when it fails."""
    document = vm(name, of, **template)
    document["spec"]["runStrategy"] = "Once"
    return document


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (vm("bad", "No/Such"), "may not use matrix No/Such"),
        (vm("bad", "foreign"), "namespace bank may not use matrix foreign"),
        (
            vm(
                "bad",
                "open",
                domain={"devices": {"hostDevices": [{"name": "a", "deviceName": "ap.s390x.io/open"}]}},
            ),
            "an AP matrix cannot be one of hostDevices or gpus",
        ),
        (
            vm("bad", "open", domain={"devices": {}, "cpu": {"model": "gen16a-base"}}),
            "CPU model gen16a-base comes without the features ap, apqci, apft, apqi",
        ),
        (vm("bad", "open", annotations={"ap.s390x.io/uuid": "x"}), "annotation ap.s390x.io/uuid says x"),
    ],
    ids=["no name", "another namespace's", "hostDevices", "cpu", "uuid"],
)
async def test_a_vm_that_could_not_work_is_refused_when_it_is_made(people, document, said):
    await people.matrix("open")
    await people.matrix("foreign", allowedNamespaces=["shop"], domains=[5])
    with pytest.raises(CommandFailedError, match=said):
        await people.cluster.apply(document)


async def test_host_devices_of_its_own_start_beside_a_matrix_and_keep_the_vm_where_it_is(people):
    """KubeVirt moves no VM with host devices; that is told to whoever drains its node, and nothing is lost."""
    uuid = await people.matrix("beside")
    config = {
        "permittedHostDevices": {"pciHostDevices": [{"pciVendorSelector": "1014:1", "resourceName": "x/nic"}]}
    }
    gate = {"developerConfiguration": {"featureGates": ["Sidecar", "ReservedOverheadMemlock", "HostDevices"]}}
    kubectl, flags = people.cluster.plane.kubectl, ("kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p")
    await kubectl("patch", *flags, json.dumps({"spec": {"configuration": config | gate}}))
    try:
        domain = {
            "memory": {"guest": "128Mi"},
            "devices": {"hostDevices": [{"name": "nic", "deviceName": "x/nic"}]},
        }
        await people.cluster.apply(once("wired", "beside", domain=domain, networks=[]))
        found = await people.cluster.until(
            VMIS.within(BANK), "wired", lambda d: d.get("status", {}).get("phase") == "Scheduling", "waiting"
        )
        # No node has such a device, so the scheduler lets it wait: its matrix is another matter and was granted
        assert found["spec"]["domain"]["resources"]["limits"]["ap.s390x.io/beside"] == "1"
        await people.cluster.until(MATRICES, "beside", lambda d: d["status"].get("usedBy") == "bank/wired", "used")
        assert set(people.users(uuid).values()) <= {None}
    finally:
        gone = {"permittedHostDevices": None, "developerConfiguration": {"featureGates": gate_names()}}
        await kubectl("patch", *flags, json.dumps({"spec": {"configuration": gone}}))


def gate_names():
    return ["Sidecar", "ReservedOverheadMemlock"]


async def test_a_sidecar_that_never_serves_fails_the_first_boot_and_frees_the_matrix_with_its_vm(people):
    """KubeVirt leaves the pod of a VM that failed, and in it the sidecars that still run, until the VM goes."""
    uuid = await people.matrix("waited-for")
    with people.knobs(hook_limit=3.0):
        mute = {HOOKS: json.dumps([{"image": "example.invalid/mute:v1"}])}
        await people.cluster.apply(once("mute", "waited-for", annotations=mute))
        words = "Failed to collect all expected sidecar hook sockets within given timeout"
        assert words in await people.told("mute", "SyncFailed")
        await people.cluster.until(
            VMIS.within(BANK), "mute", lambda d: d.get("status", {}).get("phase") == "Failed", "Failed"
        )
    assert set(people.users(uuid).values()) == {None}
    await people.cluster.plane.kubectl("delete", "vm", "mute", "-n", BANK)
    node = await people.boot("next", "waited-for")
    assert people.users(uuid)[node] == "bank_next"


async def test_a_target_whose_sidecar_never_serves_is_given_up_and_the_vm_stays(people):
    policy = {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMigrationPolicy",
        "metadata": {"name": "hasty"},
        "spec": {"timeLimits": {"hold": 5}},
    }
    await people.cluster.apply(policy)
    try:
        uuid = await people.matrix("silent")
        source = await people.boot("patient", "silent")
        with people.image("vfio-ap-hook", SILENT):
            await people.ask("patient")
            assert (await people.over("patient"))["status"]["phase"] == "Failed"
        for node in EQUAL - {source}:
            await people.released(node)
        assert people.users(uuid) == {source: "bank_patient"}
        assert await people.migrate("patient") == "Succeeded"
    finally:
        await people.cluster.plane.kubectl("delete", "apmigrationpolicy", "hasty")
