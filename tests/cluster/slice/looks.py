"""What the tests look at: the nodes' own files, and objects by watch."""

import asyncio
import contextlib

from vfio_ap.idset import IdSet
from vfio_ap_kube.client import EVENTS, NODES
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster.simcluster import MATRICES, matrix

ALL_ONES = "0x" + "f" * 64


def everywhere(name, adapters, domains, **more):
    spec = {"allowedNamespaces": ["bank"], "placement": "Everywhere", **more}
    return matrix(name, adapters=adapters, domains=domains, **spec)


def mdevs(node):
    """Return the node's mediated devices as its kernel has them: UUID to queues."""
    return {mdev["uuid"]: mdev["matrix"] for mdev in node.control.show()["mdevs"]}


async def masks(node):
    return tuple([(await node.read(f"/sys/bus/ap/{name}")).strip() for name in ("apmask", "aqmask")])


async def released(node):
    return tuple(IdSet.every() - IdSet.from_mask(text) for text in await masks(node))


async def delete(cluster, *names):
    """Delete matrices and return once they and their devices are gone."""
    for name in names:
        await cluster.plane.kubectl("delete", "apmatrix", name, "--ignore-not-found", "--wait=false")
    for name in names:
        await cluster.gone(MATRICES, name)


async def event(cluster, name, reason, namespace="default"):
    """Return the message of an Event on an object, once it was posted."""
    changes = follow(cluster.client, EVENTS.within(namespace), fieldSelector=f"involvedObject.name={name}")
    async with asyncio.timeout(20), contextlib.aclosing(changes):
        async for change in changes:
            if not change.synced and change.object["reason"] == reason:
                return change.object["message"]
    raise AssertionError("a followed collection does not end")


async def no_resource(cluster, node, name):
    """Return once kubelet publishes no device of the matrix on the node."""
    key = f"ap.s390x.io/{name}"
    await cluster.until(
        NODES, node, lambda d: (d["status"].get("allocatable") or {}).get(key, "0") == "0", f"without {key}"
    )
