"""One simulated cluster for the tests of this folder: three nodes, the chart installed, agents reporting."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane import BinaryUnavailableError
from vfio_ap_sim.kernel import machine_from

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"


@pytest_asyncio.fixture(autouse=True, loop_scope="package")
async def _no_matrix_left(cluster: SimCluster) -> AsyncIterator[None]:
    yield
    await cluster.plane.kubectl("delete", "apmatrix", "--all", "--wait=true", "--timeout=60s")


def lpar(name, adapters=(5, 6, 7), usage="0-15,0x47,0xab,0xff", **more):
    return machine_from(
        {
            "name": name,
            "machine": {"sequence": f"00000000000{name.upper():0>5}"[-16:], "lpar": name.upper()},
            "adapters": [{"id": number, "type": "CEX8C", "keys": "shared"} for number in adapters],
            "usageDomains": usage,
            **more,
        }
    )


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster() -> AsyncIterator[SimCluster]:
    """The cluster; each test uses matrices of its own and leaves none."""
    found = SimCluster(CHART)
    try:
        await found.__aenter__()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        await found.install()
        for number in (1, 2, 3):
            labels = {"row": "a" if number < 3 else "b"}
            await found.add_node(f"n{number}", lpar(f"n{number}"), labels=labels, profile="MIGv4PLUS")
        await found.plane.kubectl("create", "namespace", "bank")
        await found.reported("n1", "n2", "n3")
        yield found
    finally:
        await found.__aexit__()
