"""Guests move, by a migration or a drain, and what stops them says so in KubeVirt's status."""

import json

import pytest

from vfio_ap_sim.kubevirt.api import VMIMS, VMIS

from .site import SPACE, move, vmi, with_device

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def test_a_migration_moves_a_guest(site):
    source = await site.boot(vmi("moves"))
    state = await site.migrate("moves")
    assert (state["sourceNode"], state["completed"]) == (source, True)
    assert state["targetNode"] != source
    assert site.guests()[state["targetNode"]] == ["default_moves"]
    assert site.guests()[source] == []
    found = await site.vmi("moves", lambda d: d["status"]["nodeName"] == state["targetNode"], "over there")
    assert found["status"]["phase"] == "Running"
    assert found["metadata"]["labels"]["kubevirt.io/nodeName"] == state["targetNode"]


async def test_a_drain_moves_a_guest(site):
    source = await site.boot(vmi("drained"))
    flags = ("--delete-emptydir-data", "--force", "--pod-selector=kubevirt.io=virt-launcher")
    try:
        said = await site.cluster.plane.kubectl("drain", source, *flags)
    finally:
        await site.cluster.plane.kubectl("uncordon", source)
    assert f"node/{source} drained" in said
    assert site.guests()[source] == []
    assert [guest for guests in site.guests().values() for guest in guests] == ["default_drained"]
    found = await site.cluster.client.get(VMIS.within(SPACE), "drained")
    assert "evacuationNodeName" not in found["status"]


async def test_a_device_goes_with_its_guest_and_comes_back(site):
    device = site.device("travels")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    await site.boot(with_device("travels", device))
    await site.advertise(device, "kv2")
    await site.migrate("travels")
    assert site.users(device) == {"kv1": None, "kv2": "default_travels"}
    await site.cluster.plane.kubectl("delete", "vmim", "move-travels")
    await site.migrate("travels")
    assert site.users(device) == {"kv1": "default_travels", "kv2": None}


async def test_the_products_own_sidecar_gives_a_guest_its_device(site):
    device = site.device("payments")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    document = with_device("ledger", device)
    document["metadata"]["annotations"] = {
        "ap.s390x.io/uuid": device.uuid,
        "hooks.kubevirt.io/hookSidecars": json.dumps([{"image": "vfio-ap-hook:v1", "args": ["serve"]}]),
    }
    await site.boot(document)
    assert site.users(device) == {"kv1": "default_ledger", "kv2": None}
    await site.advertise(device, "kv2")
    await site.migrate("ledger")
    assert site.users(device) == {"kv1": None, "kv2": "default_ledger"}


async def test_a_kernel_that_cannot_migrate_keeps_its_guest(site):
    device = site.device("stays")
    site.make(device, "old", "kv1")
    await site.advertise(device, "old")
    await site.boot(with_device("stays", device))
    await site.advertise(device, "kv1")
    state = await site.migrate("stays", until="Failed")
    assert "cannot migrate domain: non-migratable device: vfio-ap" in state["failureReason"]
    assert site.users(device) == {"old": "default_stays", "kv1": None}
    assert await site.running_on("stays") == "old"


async def test_a_target_without_the_device_is_refused_before_the_guest_is_paused(site):
    device = site.device("missing")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    await site.boot(with_device("missing", device))
    await site.advertise(device, "kv2")
    state = await site.migrate("missing", until="Failed")
    assert f"device not found: mediated device '{device.uuid}' not found" in state["failureReason"]
    assert site.users(device) == {"kv1": "default_missing"}


async def test_a_target_whose_kernel_refuses_the_queues_gives_the_guest_back(site):
    device = site.device("unbound")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    await site.boot(with_device("unbound", device))
    await site.advertise(device, "kv2")
    target = site.cluster.nodes["kv2"].control.kernel
    uuid = f"/sys/devices/vfio_ap/matrix/{device.uuid}"
    target.write(f"{uuid}/unassign_domain", f"{device.domain:#x}\n")
    target.write("/sys/bus/ap/aqmask", f"+{device.domain}\n")
    try:
        state = await site.migrate("unbound", until="Failed")
    finally:
        target.write("/sys/bus/ap/aqmask", f"-{device.domain}\n")
    assert "load of migration failed: No such device" in state["failureReason"]
    assert site.users(device) == {"kv1": "default_unbound", "kv2": None}


async def test_a_target_that_may_not_lock_memory_in_time_is_refused(site):
    device = site.device("unlocked")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    with site.knobs(raise_memlock_on_target=False):
        await site.boot(with_device("unlocked", device))
        await site.advertise(device, "kv2")
        state = await site.migrate("unlocked", until="Failed")
    assert "cannot limit locked memory to 1207959552: Operation not permitted" in state["failureReason"]
    assert site.users(device) == {"kv1": "default_unlocked", "kv2": None}


async def test_post_copy_is_refused(site):
    device = site.device("post-copy")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    await site.boot(with_device("late", device))
    await site.advertise(device, "kv2")
    policy = {
        "apiVersion": "migrations.kubevirt.io/v1alpha1",
        "kind": "MigrationPolicy",
        "metadata": {"name": "late"},
        "spec": {
            "allowPostCopy": True,
            "selectors": {"namespaceSelector": {"kubernetes.io/metadata.name": SPACE}},
        },
    }
    await site.cluster.apply(policy)
    try:
        state = await site.migrate("late", until="Failed")
    finally:
        await site.cluster.plane.kubectl("delete", "migrationpolicy", "late")
    assert "VFIO migration is not supported with postcopy migration" in state["failureReason"]
    assert site.users(device) == {"kv1": "default_late", "kv2": None}


async def test_an_aborted_migration_leaves_the_guest_where_it_was(site):
    with site.knobs(copy_time=3600):
        source = await site.boot(vmi("aborted"))
        await site.migrate("aborted", until="Running")
        await site.cluster.plane.kubectl("delete", "vmim", "move-aborted")
    found = await site.vmi("aborted", lambda d: d["status"]["migrationState"].get("failed"), "aborted")
    state = found["status"]["migrationState"]
    assert (state["failureReason"], state["abortStatus"]) == ("Live migration aborted ", "Succeeded")
    assert await site.running_on("aborted") == source
    assert site.guests()[source] == ["default_aborted"]


async def test_a_sidecar_can_veto_on_the_target_and_its_xml_counts_for_nothing_there(site):
    device = site.device("vetoed")
    site.make(device, "kv1", "kv2")
    await site.advertise(device, "kv1")
    await site.boot(with_device("vetoed", device, "--veto-target"))
    await site.advertise(device, "kv2")
    await site.cluster.apply(move("vetoed"))
    event = await site.event("vetoed", "SyncFailed")
    assert event.startswith("syncing migration target failed: server error. command SyncMigrationTarget failed: ")
    assert (
        "executing custom preStart hooks failed: rpc error: code = FailedPrecondition desc = not on kv2" in event
    )
    migration = await site.cluster.client.get(VMIMS.within(SPACE), "move-vetoed")
    assert migration["status"]["phase"] == "PreparingTarget"
    assert site.users(device) == {"kv1": "default_vetoed", "kv2": None}
