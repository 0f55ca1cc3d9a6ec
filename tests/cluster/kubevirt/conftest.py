"""KubeVirt on a control plane of its own: two nodes whose kernels can move a vfio-ap device, one that cannot."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane import BinaryUnavailableError
from vfio_ap_sim.kernel import machine_from
from vfio_ap_sim.kubevirt import Knobs, KubeVirt, Settings
from vfio_ap_sim.kubevirt.settings import GATES

from .site import SIDECAR, Site

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
IMAGES = {SIDECAR: [sys.executable, str(Path(__file__).with_name("sidecar.py"))]}
SETTINGS = Settings(feature_gates=(*GATES, "HostDevices"))
PROFILES = {"kv1": "MIGv4PLUS", "kv2": "MIGv4PLUS", "old": "K7.1"}


def lpar(name):
    return machine_from(
        {
            "name": name,
            "machine": {"sequence": f"00000000000{name.upper():0>5}"[-16:], "lpar": name.upper()},
            "adapters": [{"id": 5, "type": "CEX8C", "keys": "shared"}],
            "usageDomains": "0-63",
        }
    )


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def running() -> AsyncIterator[Site]:
    cluster = SimCluster(CHART)
    try:
        await cluster.__aenter__()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    kubevirt = KubeVirt(cluster.plane, SETTINGS)
    try:
        try:
            await kubevirt.start()
        except BinaryUnavailableError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        for name, profile in PROFILES.items():
            node = await cluster.add_node(name, lpar(name), profile=profile, images=IMAGES)
            node.control.kernel.write("/sys/bus/ap/aqmask", ",".join(f"-{domain}" for domain in range(64)) + "\n")
            await kubevirt.attach(node, Knobs(hook_limit=5.0))
        yield Site(cluster, kubevirt)
    finally:
        await kubevirt.stop()
        await cluster.__aexit__()


@pytest_asyncio.fixture(loop_scope="package")
async def site(running: Site) -> AsyncIterator[Site]:
    """The cluster, for one test: what the test made is gone after it."""
    yield running
    await running.clear()
