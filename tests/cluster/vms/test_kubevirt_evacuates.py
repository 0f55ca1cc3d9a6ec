"""With evacuation.strategy Unchanged KubeVirt evacuates by itself, and the gate catches what it makes."""

import asyncio
import json

import pytest
import pytest_asyncio

from vfio_ap_kube.client import EVENTS
from vfio_ap_operator.reconcile import POLICIES
from vfio_ap_sim.cluster import SYSTEM
from vfio_ap_sim.kubevirt.api import VMIMS, VMIS

from .people import BANK, vm

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EQUAL = {"v1", "v2", "v3"}


async def in_force(people, of, wanted):
    """Return once new VMIs with the matrix get an evictionStrategy."""
    template = vm("probe", of)["spec"]["template"]
    document = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", **template}
    document["metadata"] |= {"name": "probe", "namespace": BANK}
    flags = ("-f", "-", "--dry-run=server", "-o", "jsonpath={.spec.evictionStrategy}")
    async with asyncio.timeout(60):
        while await people.cluster.plane.kubectl("create", *flags, stdin=json.dumps(document)) != wanted:
            await asyncio.sleep(0.1)  # no event tells that a policy is in force


@pytest_asyncio.fixture(loop_scope="package")
async def upgrade(people):
    """A function that upgrades the chart with other values; afterwards it is as it was."""
    await people.matrix("probed", domains=[9])

    async def change(wanted, **values):
        await people.cluster.install(**{"admission.earlyRefusal": "true"}, **values)
        await people.cluster.plane.kubectl("rollout", "status", "deployment/vfio-ap-operator", "-n", SYSTEM)
        await people.cluster.serve_webhook()
        await in_force(people, "probed", wanted)

    yield change
    # Without any value helm would keep those of the last upgrade
    await change("External", **{"evacuation.strategy": "External", "image.tag": ""})


async def test_a_drain_moves_the_vm_by_kubevirts_own_migration(people, upgrade):
    await upgrade("None", **{"evacuation.strategy": "Unchanged"})
    uuid = await people.matrix("theirs")
    source = await people.boot("teller", "theirs", evictionStrategy="LiveMigrate")
    assert f"node/{source} drained" in await people.drain(source)
    await people.running("teller", EQUAL - {source})
    migrations = await people.cluster.client.listing(VMIMS.within(BANK))
    assert [m["metadata"]["name"].startswith("kubevirt-evacuation-") for m in migrations["items"]] == [True]
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_teller"]
    assert people.users(uuid).keys() < EQUAL


async def test_a_drain_that_kubevirt_tries_again_and_again_is_told_once(people):
    """Each try is refused when it is asked for; virt-controller says so, and so it must be the same words."""
    policy = {"apiVersion": POLICIES.api_version, "kind": "APMigrationPolicy", "metadata": {"name": "theirs"}}
    await people.cluster.apply(policy | {"spec": {"evacuation": "KubeVirt"}})
    try:
        await people.matrix("refused-again")
        await in_force(people, "refused-again", "LiveMigrate")
        source = await people.boot("patient", "refused-again")
        for node in EQUAL - {source}:
            await people.cluster.plane.kubectl("cordon", node)
        drain = asyncio.create_task(people.drain(source, limit=30))
        try:
            await people.repeated("patient", "no node can take it", times=3)
        finally:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
        events = (await people.cluster.client.listing(EVENTS.within(BANK)))["items"]
        told = [e["message"] for e in events if "VM bank/patient: no node can take it" in e["message"]]
        assert len(told) == len(set(told)) == 1
    finally:
        await people.cluster.plane.kubectl("delete", "apmigrationpolicy", "theirs")


async def test_a_chart_that_is_changed_under_a_running_vm_strands_it_not(people, upgrade):
    """The VM keeps the External and the sidecar that it was started with, and the operator goes on to move it."""
    uuid = await people.matrix("kept")
    source = await people.boot("veteran", "kept")
    await upgrade("None", **{"evacuation.strategy": "Unchanged", "image.tag": "0.2.0"})
    vmi = await people.cluster.client.get(VMIS.within(BANK), "veteran")
    assert vmi["spec"]["evictionStrategy"] == "External"
    assert f"node/{source} drained" in await people.drain(source, limit=90)
    await people.running("veteran", EQUAL - {source})
    await people.released(source)
    assert list(people.users(uuid).values()) == ["bank_veteran"]
    launcher = await people.launcher("veteran")
    assert "vfio-ap-hook:0.1.0" in [c["image"] for c in launcher["spec"]["containers"]]
