"""The whole product with KubeVirt: real virt-api and virt-controller, three equal nodes and one that is not."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane import BinaryUnavailableError
from vfio_ap_sim.kernel import machine_from
from vfio_ap_sim.kubevirt import KubeVirt

from .meddlers import Meddlers
from .pause import Pause

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
NODES = {"v1": "CEX8C", "v2": "CEX8C", "v3": "CEX8C", "z-odd": "CEX8P"}
"""Nodes, and the type of their adapter 5: the last one is in EP11 mode, where the others are in CCA mode."""


def lpar(name, kind):
    return machine_from(
        {
            "name": name,
            "machine": {"sequence": f"00000000000{name.upper():0>5}"[-16:], "lpar": name.upper()},
            "adapters": [{"id": 5, "type": kind, "keys": "bank"}, {"id": 6, "type": "CEX8C", "keys": "bank"}],
            "usageDomains": "0-15,0xab",
            "maxDomain": 255,
        }
    )


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def whole() -> AsyncIterator[tuple[SimCluster, KubeVirt]]:
    """Cluster and KubeVirt, the product installed, agents reporting."""
    cluster = SimCluster(CHART)
    try:
        await cluster.__aenter__()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        async with KubeVirt(cluster.plane) as kubevirt:
            await cluster.install(**{"admission.earlyRefusal": "true"})
            for name, kind in NODES.items():
                await kubevirt.attach(await cluster.add_node(name, lpar(name, kind), profile="MIGv4PLUS"))
            await cluster.plane.kubectl("create", "namespace", "bank")
            await cluster.reported(*NODES)
            await cluster.serve_webhook()
            yield cluster, kubevirt
    finally:
        await cluster.__aexit__()


@pytest_asyncio.fixture(loop_scope="package")
async def people(whole) -> AsyncIterator[Meddlers]:
    """Who makes VMs and drains nodes; afterwards no VM, no matrix and no cordon is left."""
    found = Meddlers(*whole)
    yield found
    await found.leave()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def _pausing(whole) -> Pause:
    pause = Pause(whole[0].plane.kubectl)
    await pause.install()
    return pause


@pytest_asyncio.fixture(loop_scope="package")
async def pause(_pausing: Pause) -> AsyncIterator[Pause]:
    """Keeps the operator from going on at a place; afterwards its way is free."""
    yield _pausing
    await _pausing.at("")
