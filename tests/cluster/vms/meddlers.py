"""Who looks at a move while it is under way, stops it, or kills what drives it."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace

from vfio_ap.host.ops import Write
from vfio_ap_agent import paths
from vfio_ap_kube.client import EVENTS, PODS
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster.simcluster import SYSTEM
from vfio_ap_sim.kernel.migration.move import finish
from vfio_ap_sim.kubevirt.api import VMIMS

from .people import BANK, People


class Meddlers(People):
    """People, and what they do to a move by hand."""

    async def ask(self, name):
        """Ask for a migration, as ``virtctl migrate`` does."""
        document = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": f"by-hand-{name}", "namespace": BANK},
            "spec": {"vmiName": name},
        }
        await self.cluster.apply(document)

    async def over(self, name, *phases):
        """Return the migration that was asked for once it is over, or in one of the phases."""
        return await self.cluster.until(
            VMIMS.within(BANK),
            f"by-hand-{name}",
            lambda d: d.get("status", {}).get("phase") in (phases or ("Succeeded", "Failed")),
            f"in {', '.join(phases) or 'its end'}",
        )

    async def forget(self, name):
        """Delete the migration that was asked for; one that is not over is cancelled by that."""
        await self.cluster.plane.kubectl("delete", "vmim", f"by-hand-{name}", "-n", BANK)

    async def target(self, holds):
        """Return the target's pod of the one migration under way once it holds, as the watch brings it."""
        changes = follow(self.cluster.client, PODS.within(BANK), labelSelector="kubevirt.io/migrationJobUID")
        async with asyncio.timeout(60), contextlib.aclosing(changes):
            async for change in changes:
                if not change.synced and not change.deleted and holds(change.object):
                    return change.object
        raise AssertionError("a followed collection does not end")

    def write(self, node, uuid, attribute, text):
        """Write an attribute of a device as somebody at the node's shell does; returns when it is done."""
        control = self.cluster.nodes[node].control
        path = f"{paths.mdev(uuid)}/{attribute}"
        finish(control, control.kernel.submit(Write(path, str(text).encode()), comm="sh", pid=99))

    async def warned(self, name, reason, *kinds):
        """Return the message of the warnings with this reason, the same on an object of each kind named so."""
        said = {}
        changes = follow(self.cluster.client, EVENTS.within(BANK))
        async with asyncio.timeout(40), contextlib.aclosing(changes):
            async for change in changes:
                event = {} if change.synced or change.deleted else change.object
                about = event.get("involvedObject", {})
                if event.get("reason") == reason and name in about["name"] and about["kind"] in kinds:
                    assert event["type"] == "Warning"
                    said[about["kind"]] = event["message"]
                if said.keys() == set(kinds):
                    return said
        raise AssertionError("a followed collection does not end")

    async def repeated(self, name, text, times):
        """Return once an Event on an object named so, with the text in its message, has counted up to this."""
        changes = follow(self.cluster.client, EVENTS.within(BANK))
        async with asyncio.timeout(60), contextlib.aclosing(changes):
            async for change in changes:
                event = {} if change.synced or change.deleted else change.object
                if text not in event.get("message", "") or name not in event["involvedObject"]["name"]:
                    continue
                if event.get("count", 1) >= times:
                    return
        raise AssertionError("a followed collection does not end")

    async def kill_operator(self):
        """SIGKILL the operator's processes; kubelet starts them again."""
        component = "app.kubernetes.io/component=operator"
        for pod in (await self.cluster.client.listing(PODS.within(SYSTEM), labelSelector=component))["items"]:
            self.cluster.nodes[pod["spec"]["nodeName"]].kubelet.kill(SYSTEM, pod["metadata"]["name"])

    async def kill_agent(self, node):
        """SIGKILL a node's agent; kubelet starts it again."""
        component = {
            "labelSelector": "app.kubernetes.io/component=agent",
            "fieldSelector": f"spec.nodeName={node}",
        }
        (pod,) = (await self.cluster.client.listing(PODS.within(SYSTEM), **component))["items"]
        self.cluster.nodes[node].kubelet.kill(SYSTEM, pod["metadata"]["name"])

    @contextlib.contextmanager
    def knobs(self, **changes) -> Iterator[None]:
        """Turn knobs of all nodes, for launchers that begin meanwhile."""
        usual = {handler: handler.knobs for handler in self.kubevirt.handlers.values()}
        for handler in usual:
            handler.knobs = replace(handler.knobs, **changes)
        try:
            yield
        finally:
            for handler, knobs in usual.items():
                handler.knobs = knobs

    @contextlib.contextmanager
    def image(self, name, command) -> Iterator[None]:
        """Have another program stand for an image, for containers that start meanwhile."""
        maps = [node.kubelet._image_map for node in self.cluster.nodes.values()]
        usual = maps[0][name]
        for programs in maps:
            programs[name] = command
        try:
            yield
        finally:
            for programs in maps:
                programs[name] = usual
