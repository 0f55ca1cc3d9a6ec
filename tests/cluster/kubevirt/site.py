"""What a test does with the cluster: devices on nodes, VMs with a sidecar, migrations, and what came of them."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vfio_ap_agent.plugin import Grant, PluginSet
from vfio_ap_kube.client import EVENTS
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.controlplane import CommandFailedError
from vfio_ap_sim.kubevirt import KubeVirt
from vfio_ap_sim.kubevirt.api import VMIMS, VMIS

Document = dict[str, Any]
SIDECAR = "example.invalid/sidecar"
SPACE = "default"
MATRIX = "/sys/devices/vfio_ap/matrix"
OVERHEAD = {"memLock": "Required", "addedOverhead": "1Gi"}
"""What a VM with an mdev needs, though KubeVirt does not see the mdev."""


def vmi(name: str, *, sidecar: list[str] | None = None, resource: str = "", **domain: Any) -> Document:
    """Return a VMI; ``domain`` are fields of its domain."""
    domain.setdefault("memory", {"guest": "128Mi"})
    domain.setdefault("devices", {}).setdefault("interfaces", [{"name": "default", "masquerade": {}}])
    if resource:
        domain["resources"] = {"limits": {resource: "1"}, "requests": {resource: "1"}}
    annotations = {}
    if sidecar is not None:
        annotations["hooks.kubevirt.io/hookSidecars"] = json.dumps([{"image": f"{SIDECAR}:v1", "args": sidecar}])
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": SPACE, "annotations": annotations},
        "spec": {
            "evictionStrategy": "LiveMigrate",
            "terminationGracePeriodSeconds": 0,
            "domain": domain,
            "networks": [{"name": "default", "pod": {}}],
        },
    }


def with_device(name: str, device: "Device", *more: str, **domain: Any) -> Document:
    """Return a VMI as the product would make it: resource, sidecar and room for locked memory."""
    domain.setdefault("memory", {"guest": "128Mi", "reservedOverhead": OVERHEAD})
    return vmi(name, sidecar=[f"vfio-ap={device.uuid}", *more], resource=device.resource, **domain)


def move(name: str) -> Document:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": f"move-{name}", "namespace": SPACE},
        "spec": {"vmiName": name},
    }


class Device:
    """One mdev's UUID and the resource under which nodes advertise it."""

    def __init__(self, name: str, domain: int) -> None:
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.resource = f"ap.s390x.io/{name}"
        self.domain = domain


class Site:
    """The cluster and KubeVirt on it."""

    def __init__(self, cluster: SimCluster, kubevirt: KubeVirt) -> None:
        self.cluster = cluster
        self.kubevirt = kubevirt
        self._domains = iter(range(64))
        self._plugins: dict[str, tuple[PluginSet, asyncio.Task[None], list[Grant]]] = {}
        self._vmis: list[str] = []
        self._uuids: list[tuple[str, str]] = []

    def device(self, name: str) -> Device:
        """Return a device with a domain of its own; it is nowhere yet."""
        return Device(name, next(self._domains))

    def make(self, device: Device, *nodes: str) -> None:
        """Create the device's mdev on nodes."""
        for node in nodes:
            kernel = self.cluster.nodes[node].control.kernel
            kernel.write(f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create", f"{device.uuid}\n")
            for attribute, value in (("assign_adapter", 5), ("assign_domain", device.domain)):
                kernel.write(f"{MATRIX}/{device.uuid}/{attribute}", f"{value:#x}\n")
            self._uuids.append((node, device.uuid))

    async def advertise(self, device: Device, *nodes: str) -> None:
        """Have the nodes' kubelets offer the device."""
        for node in nodes:
            if node not in self._plugins:
                plugins = PluginSet(self.cluster.nodes[node].kubelet.device_plugins, _agree)
                self._plugins[node] = plugins, asyncio.create_task(plugins.run()), []
            plugins, _, grants = self._plugins[node]
            mdevs = self.cluster.nodes[node].control.kernel.mdevs
            mdev = mdevs.visible(device.uuid) if mdevs else None
            grants.append(Grant(device.resource, device.uuid, str(mdev.group if mdev else 99), True))
            await plugins.set(grants)

    async def create(self, document: Document) -> None:
        self._vmis.append(document["metadata"]["name"])
        await self.cluster.apply(document)

    async def vmi(self, name: str, holds, what: str) -> Document:
        return await self.cluster.until(VMIS.within(SPACE), name, holds, what, limit=40)

    async def running_on(self, name: str) -> str:
        """Return the node of a VMI once its guest runs and may be moved."""

        def ready(found: Document) -> bool:
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(found))
            return ready and found["status"]["phase"] == "Running"

        return (await self.vmi(name, ready, "Running"))["status"]["nodeName"]

    async def boot(self, document: Document) -> str:
        await self.create(document)
        return await self.running_on(document["metadata"]["name"])

    async def failure(self, name: str) -> str:
        """Return why virt-handler cannot start a VMI's guest."""
        found = await self.vmi(name, lambda d: condition(d, "Synchronized"), "refused")
        assert found["status"]["phase"] == "Scheduled"
        return condition(found, "Synchronized")["message"]

    async def migrate(self, name: str, until: str = "Succeeded") -> Document:
        """Ask for a migration and return its state in the VMI once the migration is in a phase."""
        await self.cluster.apply(move(name))
        resource = VMIMS.within(SPACE)
        await self.cluster.until(
            resource, f"move-{name}", lambda d: d.get("status", {}).get("phase") == until, until, limit=40
        )
        return (await self.cluster.client.get(VMIS.within(SPACE), name))["status"]["migrationState"]

    async def event(self, name: str, reason: str) -> str:
        """Return the message of an Event on a VMI once it is posted."""
        selector = f"involvedObject.name={name},reason={reason}"
        changes = follow(self.cluster.client, EVENTS.within(SPACE), fieldSelector=selector)
        try:
            async with asyncio.timeout(40):
                async for change in changes:
                    if not change.synced and not change.deleted:
                        return change.object["message"]
        finally:
            await changes.aclose()
        raise AssertionError("a followed collection does not end")

    @contextmanager
    def knobs(self, **changes: Any) -> Iterator[None]:
        """Turn knobs of all nodes, for VMs that boot meanwhile."""
        usual = {handler: handler.knobs for handler in self.kubevirt.handlers.values()}
        for handler in usual:
            handler.knobs = replace(handler.knobs, **changes)
        try:
            yield
        finally:
            for handler, knobs in usual.items():
                handler.knobs = knobs

    def guests(self) -> dict[str, list[str]]:
        """Return the guests that the nodes' kernels have."""
        return {
            name: [guest["name"] for guest in node.control.show()["guests"]]
            for name, node in self.cluster.nodes.items()
        }

    def users(self, device: Device) -> dict[str, str | None]:
        """Return which guest has the device, by node."""
        return {
            name: mdev["guest"]
            for name, node in self.cluster.nodes.items()
            for mdev in node.control.show()["mdevs"]
            if mdev["uuid"] == device.uuid
        }

    async def refused(self, document: Document) -> str:
        """Return why the API server refuses a document."""
        try:
            await self.cluster.apply(document)
        except CommandFailedError as error:
            return error.refusal.message
        raise AssertionError("it was accepted")

    async def clear(self) -> None:
        """Take away what a test made."""
        for name in self._vmis:
            await self.cluster.plane.kubectl("delete", "vmi", name, "--ignore-not-found")
        await self.cluster.plane.kubectl("delete", "vmim", "--all")
        self._vmis.clear()
        for plugins, task, _ in self._plugins.values():
            await plugins.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._plugins.clear()
        for node, found in self._uuids:
            kernel = self.cluster.nodes[node].control.kernel
            if kernel.mdevs and kernel.mdevs.visible(found):
                kernel.write(f"{MATRIX}/{found}/remove", "1\n")
        self._uuids.clear()
        assert not any(self.guests().values()), "a guest was left"


def condition(document: Document, kind: str) -> Document:
    """Return a condition, empty when there is none."""
    return next((c for c in _conditions(document) if c["type"] == kind), {})


def _conditions(document: Document) -> list[Document]:
    return document.get("status", {}).get("conditions", [])


async def _agree(grant: Grant) -> Grant:
    return grant
