"""The examples in docs/examples run as they stand, in the order in which the README applies them."""

from pathlib import Path

import pytest

from vfio_ap_sim.cluster.simcluster import MATRICES

from .people import BANK

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
TRIED = {"payments.yaml", "ledger.yaml"}


async def test_the_examples_make_a_vm_that_has_its_device_and_can_be_migrated(people):
    kubectl = people.cluster.plane.kubectl
    await kubectl("apply", "-f", str(EXAMPLES / "payments.yaml"))
    await kubectl("wait", "--for=condition=Ready", "--timeout=40s", "apmatrix/payments")
    await kubectl("apply", "-f", str(EXAMPLES / "ledger.yaml"))
    await kubectl("wait", "--for=condition=Ready", "--timeout=40s", "vm/ledger", "-n", BANK)
    node = (await people.running("ledger"))["status"]["nodeName"]
    matrix = await people.cluster.client.get(MATRICES, "payments")
    assert people.users(matrix["status"]["uuid"]) == {node: "bank_ledger"}
    assert people.kubevirt.handlers[node].guest(BANK, "ledger").sees_adapters
    assert await people.migrate("ledger") == "Succeeded"


async def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.iterdir()} == TRIED
