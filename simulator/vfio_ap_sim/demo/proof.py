"""The demo's last word: what the nodes' own sysfs says, not what the product says of itself.

Each check reads the modelled kernels directly and raises Mismatch with both values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vfio_ap.host.masks import HostMasks
from vfio_ap.host.ops import List, Names
from vfio_ap.host.release import ReleaseProblem, plan_release
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_kube.client import NODES, Document
from vfio_ap_sim.cluster import SimCluster, SimNode

_MDEVS = "/sys/devices/vfio_ap/matrix"


class MismatchError(AssertionError):
    """A node is not as it should be."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One matrix, and the nodes that shall have it."""

    name: str
    uuid: str
    configuration: Matrix
    nodes: tuple[str, ...]


def expected(document: Document, nodes: Iterable[str]) -> Expected:
    """Return what an APMatrix that is Ready promises of these nodes."""
    status = document["status"]
    configuration = Matrix(IdSet.parse(status["adapters"]), IdSet.parse(status["domains"]))
    return Expected(document["metadata"]["name"], status["uuid"], configuration, tuple(nodes))


async def device(node: SimNode, wanted: Expected) -> str:
    """Check that the node's mdev has the UUID and the queues; return a line that says so."""
    folder = f"{_MDEVS}/{wanted.uuid}"
    held = Matrix.from_ap_config(await node.read(f"{folder}/ap_config"))
    guest = (await node.read(f"{folder}/guest_matrix")).split()
    if held != wanted.configuration or guest != [str(apqn) for apqn in wanted.configuration]:
        raise MismatchError(f"{node.name}: mdev {wanted.uuid} holds {held}, a guest gets {guest}; {wanted}")
    return f"{node.name}: mdev {wanted.uuid} has {' '.join(guest)}"


async def in_use(node: SimNode, wanted: Expected, guest: str) -> str:
    """Check that the guest has the device with all its queues; return a line that says so."""
    line = await device(node, wanted)
    said = {apqn: (await node.read(f"/sys/bus/ap/devices/{apqn}/status")).strip() for apqn in wanted.configuration}
    if any(status != "in use" for status in said.values()):
        raise MismatchError(f"{node.name}: queues of {wanted.name} are not all in use: {said}")
    user = next(mdev["guest"] for mdev in node.control.show()["mdevs"] if mdev["uuid"] == wanted.uuid)
    if user != guest:
        raise MismatchError(f"{node.name}: mdev {wanted.uuid} is used by {user}, not by {guest}")
    return f"{line}, in use by {guest}"


async def nothing(node: SimNode) -> str:
    """Check that the node holds no device and that all queues are the host's; return a line that says so."""
    (listing,) = await node.host.run([List("/sys/bus/mdev/devices")], deadline=10)
    held = listing.names if isinstance(listing, Names) else (f"unknown: {listing}",)
    (adapters, domains) = [
        IdSet.from_mask(await node.read(f"/sys/bus/ap/{name}")) for name in ("apmask", "aqmask")
    ]
    if held or len(adapters) < 256 or len(domains) < 256:
        raise MismatchError(f"{node.name}: still holds {held}; host masks {adapters} and {domains}")
    return f"{node.name}: no mediated device, and every queue is the host's"


async def masks(node: SimNode, wanted: list[Expected]) -> str:
    """Check that the host gave up no more queues than it had to; return a line that says so."""
    adapters = IdSet.from_mask(await node.read("/sys/bus/ap/apmask"))
    domains = IdSet.from_mask(await node.read("/sys/bus/ap/aqmask"))
    present = Matrix(
        IdSet.from_mask(await node.read("/sys/bus/ap/ap_adapter_mask")),
        IdSet.from_mask(await node.read("/sys/bus/ap/ap_usage_domain_mask")),
    )
    now = HostMasks(adapters, domains)
    released = sum(not now.reserves(apqn) for apqn in present)
    best = plan_release(ReleaseProblem(present, [item.configuration for item in wanted]))
    if not hasattr(best, "released") or released != best.released:
        raise MismatchError(f"{node.name}: {released} queues left the host; the least is {best}")
    return f"{node.name}: {released} of {len(present)} queues left the host, and no masks do with fewer"


async def no_other_device(node: SimNode, wanted: Iterable[Expected]) -> str:
    """Check that the node holds these devices and no other; return a line that says so."""
    shall = {item.uuid for item in wanted}
    there = {mdev["uuid"] for mdev in node.control.show()["mdevs"]}
    if there != shall:
        raise MismatchError(f"{node.name}: holds {sorted(there)}, shall hold {sorted(shall)}")
    return f"{node.name}: {len(there)} mediated {'device' if len(there) == 1 else 'devices'} and no other"


async def allocatable(cluster: SimCluster, node: str, wanted: Expected) -> str:
    """Check that kubelet publishes the matrix's resource; return a line that says so."""
    document = await cluster.client.get(NODES, node)
    count = (document["status"].get("allocatable") or {}).get(f"ap.s390x.io/{wanted.name}")
    if count != "1":
        raise MismatchError(f"{node}: ap.s390x.io/{wanted.name} is allocatable {count} times")
    return f"{node}: ap.s390x.io/{wanted.name} is allocatable once"
