"""What an agent in the cluster takes of its node's memory, on the largest machine there is."""

import os
import sys
from pathlib import Path

import pytest

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane import BinaryUnavailableError
from vfio_ap_sim.kernel import machine_from

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
MACHINE = {
    "adapters": [{"id": number, "type": "CEX8C", "keys": "shared"} for number in range(60)],
    "usageDomains": "0-84",
    "maxDomain": 84,
}
pytestmark = pytest.mark.cluster
LIMIT = 60 * 1024
"""KiB that the process of an agent may have resident (design, section 10)."""


def resident(node: str) -> int:
    """Return the resident size in KiB of the process that runs as this node's agent."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = b"run" in command and any(b"vfio-ap-agent" in part for part in command[:2])
        if ours and f"NODE_NAME={node}".encode() in environment:
            status = (folder / "status").read_text()
            return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    raise AssertionError(f"no process is the agent of {node}")


async def test_an_agent_of_sixty_adapters_and_85_domains_stays_under_60_mib():
    cluster = SimCluster(CHART)
    try:
        await cluster.__aenter__()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        await cluster.install()
        await held(cluster)
    finally:
        await cluster.__aexit__()


async def held(cluster):
    await cluster.add_node("n1", machine_from(MACHINE), profile="K7.1")
    await cluster.reported("n1")
    await cluster.plane.kubectl("create", "namespace", "bank")
    for number in range(10):
        await cluster.apply(
            {
                "apiVersion": "ap.s390x.io/v1alpha1",
                "kind": "APMatrix",
                "metadata": {"name": f"large-{number}"},
                "spec": {
                    "adapters": [number],
                    "domains": ["0-9"],
                    "placement": "Everywhere",
                    "allowedNamespaces": ["bank"],
                },
            }
        )
    await cluster.ready(*(f"large-{number}" for number in range(10)), limit=120)
    size = resident("n1")
    sys.stdout.write(f"agent at 60 x 85 with ten devices: {size / 1024:.1f} MiB resident\n")
    assert size < LIMIT
