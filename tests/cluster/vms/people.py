"""What a VM's owner and a node's administrator do, and where they look."""

import asyncio
import contextlib

from vfio_ap_kube.client import EVENTS, PODS
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster.simcluster import APNODES, MATRICES, condition, matrix
from vfio_ap_sim.kubevirt.api import VMIMS, VMIS

BANK = "bank"
LAUNCHERS = {"labelSelector": "kubevirt.io=virt-launcher"}


def vm(name, of, **template):
    """Return a VirtualMachine that runs, with a matrix by annotation."""
    metadata = {"annotations": {"ap.s390x.io/matrix": of, **template.pop("annotations", {})}}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "128Mi"},
            "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
        },
        "networks": [{"name": "default", "pod": {}}],
        **template,
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": BANK},
        "spec": {"runStrategy": "Always", "template": {"metadata": metadata, "spec": spec}},
    }


class People:
    def __init__(self, cluster, kubevirt):
        self.cluster, self.kubevirt = cluster, kubevirt

    async def matrix(self, name, **spec):
        """Make a matrix and return its UUID once VMs can have it on every node that it is meant for."""
        spec = {"adapters": [5], "domains": [4], "allowedNamespaces": [BANK]} | spec
        await self.cluster.apply(matrix(name, **spec))

        def available(document):
            good, _, chosen = document.get("status", {}).get("ready", "").partition("/")
            return condition(document, "Ready") == "True" and good == chosen

        return (await self.cluster.until(MATRICES, name, available, "available"))["status"]["uuid"]

    async def boot(self, name, of, **template):
        """Make a VM and return the node that it runs on."""
        await self.cluster.apply(vm(name, of, **template))
        return (await self.running(name))["status"]["nodeName"]

    async def running(self, name, on=None):
        def holds(vmi):
            status = vmi.get("status", {})
            return (
                status.get("phase") == "Running"
                and condition(vmi, "LiveMigratable") == "True"
                and (on is None or status.get("nodeName") in on)
            )

        return await self.cluster.until(VMIS.within(BANK), name, holds, f"running on {on or 'a node'}")

    async def migrate(self, name):
        document = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": f"by-hand-{name}", "namespace": BANK},
            "spec": {"vmiName": name},
        }
        await self.cluster.apply(document)
        done = await self.cluster.until(
            VMIMS.within(BANK),
            f"by-hand-{name}",
            lambda d: d.get("status", {}).get("phase") in ("Succeeded", "Failed"),
            "over",
        )
        return done["status"]["phase"]

    async def drain(self, node, limit=60):
        flags = ("--delete-emptydir-data", "--force", "--pod-selector=kubevirt.io=virt-launcher")
        return await self.cluster.plane.kubectl("drain", node, *flags, f"--timeout={limit}s", timeout=limit + 20)

    def users(self, uuid):
        """Return, by node that has the device, the guest that uses it, as the kernels see it."""
        found = {}
        for name, node in self.cluster.nodes.items():
            for mdev in node.control.show()["mdevs"]:
                if mdev["uuid"] == uuid:
                    found[name] = mdev["guest"]
        return found

    async def released(self, node):
        """Return once the node holds no device."""
        await self.cluster.until(APNODES, node, lambda d: not d["status"].get("mdevs"), "without a device")

    async def guest_has(self, node, uuid, adapters):
        """Return once the node's agent has read back that a guest gets these adapters of the device."""

        def holds(document):
            return any(
                m["uuid"] == uuid and m.get("guestAdapters") == adapters for m in document["status"]["mdevs"]
            )

        await self.cluster.until(APNODES, node, holds, f"a guest with adapters {adapters}")

    async def holds(self, node, uuid, adapters, domains):
        """Return once the node's agent has read back that a device, and its guest, have these."""
        wanted = {"adapters": adapters, "domains": domains, "guestAdapters": adapters, "guestDomains": domains}

        def done(document):
            return any(
                m["uuid"] == uuid and wanted.items() <= m.items() for m in document["status"].get("mdevs", ())
            )

        await self.cluster.until(APNODES, node, done, f"with adapters {adapters} x domains {domains}")

    async def cleared(self, node, uuid):
        """Return once the node's agent has read back that the device may not move."""

        def done(document):
            return any(m["uuid"] == uuid and m.get("migratable") is False for m in document["status"]["mdevs"])

        await self.cluster.until(APNODES, node, done, "with a device that may not move")

    async def told(self, name, reason):
        """Return the message of an Event in the namespace on anything of this name, once it is posted."""
        changes = follow(self.cluster.client, EVENTS.within(BANK))
        async with asyncio.timeout(40), contextlib.aclosing(changes):
            async for change in changes:
                event = change.object
                if not change.synced and event["reason"] == reason and name in event["involvedObject"]["name"]:
                    return event["message"]
        raise AssertionError("a followed collection does not end")

    async def launcher(self, name):
        pods = await self.cluster.client.listing(PODS.within(BANK), **LAUNCHERS)
        return next(p for p in pods["items"] if p["metadata"]["labels"]["vm.kubevirt.io/name"] == name)

    async def leave(self):
        kubectl = self.cluster.plane.kubectl
        for node in self.cluster.nodes:
            await kubectl("uncordon", node)
        await kubectl("delete", "vm,vmim", "--all", "-n", BANK, "--timeout=60s", timeout=70)
        # They go with their VM, but some time later: the next one of its name would find them
        await kubectl("delete", "apmigration", "--all", "-n", BANK, "--timeout=60s", timeout=70)
        await kubectl("delete", "apmatrix", "--all", "--timeout=60s", timeout=70)
