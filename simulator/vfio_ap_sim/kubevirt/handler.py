"""A played virt-handler: one node's part of KubeVirt, from ``start`` to ``stop``.

It follows VMIs, launcher pods and the KubeVirt object, and has the controllers look at what changed; what is done
about a guest is in ``guests`` and ``moves``. It writes as virt-handler's service account with its node's name.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from vfio_ap_kube.client import PODS, ApiError, Client, Resource
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.watch import follow
from vfio_ap_sim.kernel import InProcessHost
from vfio_ap_sim.kubevirt import movestate
from vfio_ap_sim.kubevirt.accounts import as_handler
from vfio_ap_sim.kubevirt.api import API_VERSION, FINAL, KUBEVIRTS, LAUNCHER, VMIS, Document, key
from vfio_ap_sim.kubevirt.guests import GuestController
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.launcher import Node, VirtLauncher
from vfio_ap_sim.kubevirt.launchers import Launchers, owner
from vfio_ap_sim.kubevirt.libvirterror import SyncError
from vfio_ap_sim.kubevirt.moves import SourceController, TargetController
from vfio_ap_sim.kubevirt.nodedevices import NodeDevices
from vfio_ap_sim.kubevirt.upkeep import Upkeep
from vfio_ap_sim.kubevirt.vmistatus import phase

Key = tuple[str, str]

log = logging.getLogger(__name__)


class VirtHandler:
    """KubeVirt on one node."""

    def __init__(
        self,
        node: Node,
        admin: Path,
        kubelet: Path,
        peer: Callable[[str], VirtHandler | None],
        knobs: Knobs | None = None,
    ) -> None:
        """Prepare.

        Args:
            node: the simulated node.
            admin: kubeconfig of an administrator, who may impersonate.
            kubelet: kubeconfig of the node, for what virt-handler reads from its files: the pods here.
            peer: another node's virt-handler by the node's name.
            knobs: times and limits.
        """
        self.node = node
        self.knobs = knobs or Knobs()
        """May be turned while it runs; a guest keeps those with which its pod began."""
        self._admin = admin
        self._kubelet = kubelet
        self._upkeep = Upkeep(node.name, InProcessHost(node.control.kernel, comm="virt-handler"), self.knobs)
        self._guests = GuestController(node.name, self._say)
        self._target = TargetController(node.name, node.kubelet.knobs.address, self._say)
        self._source = SourceController(node.name, peer, self.poke, self._say)
        self._launchers = Launchers(node)
        self._vmis: dict[Key, Document] = {}
        self._gone: set[str] = set()
        """Uids of VMIs that were deleted and whose guests may be left."""
        self._workers: dict[Key, _Worker] = {}
        self._background: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Register devices, label the node and look after guests. Raises ApiError, GRPCError and OSError."""
        handler = as_handler(from_kubeconfig(self._admin), self.node.name)
        client = self._client = await self._stack.enter_async_context(Client(handler, manager="virt-handler"))
        reader = Client(from_kubeconfig(self._kubelet), manager="virt-handler")
        await self._stack.enter_async_context(reader)
        self._events = EventPoster(client, "virt-handler", self.node.name)
        devices = NodeDevices(self.node.kubelet.device_plugins)
        self._stack.push_async_callback(devices.stop)
        await devices.start()
        await self._upkeep.label(client)
        here = {"fieldSelector": f"spec.nodeName={self.node.name}", "labelSelector": LAUNCHER}
        for work in (
            self._upkeep.keep_beating(client),
            self._upkeep.keep_sweeping(),
            self._follow(client, VMIS, self._see_vmi),
            self._follow(reader, PODS, self._see_pod, **here),
            self._follow(client, KUBEVIRTS, self._upkeep.see_kubevirt),
        ):
            self._background.append(self._spawn(work))

    async def stop(self) -> None:
        """End virt-handler alone: guests run on, and it knows them when it is started again. Idempotent.

        As a real one it first says that no guests may come. A migration under way is given up, which a real one,
        being virt-launcher's, is not.
        """
        tasks = [*self._background, *(worker.task for worker in self._workers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.close()
        if self._background:
            await self._upkeep.beat(self._client, schedulable=False)
        self._background.clear()
        self._workers.clear()
        await self._stack.aclose()

    def launcher(self, pod: str) -> VirtLauncher | None:
        """Return the launcher in the pod of that name, once the pod runs."""
        return self._launchers.named(pod)

    def guest(self, namespace: str, name: str) -> VirtLauncher | None:
        """Return the launcher that has a VMI's guest, if the guest is here."""
        vmi = self._vmis.get((namespace, name))
        found = None if vmi is None else self._launchers.current(vmi)
        return found if found is not None and found.alive else None

    async def swept(self, generation: int) -> None:
        """Return once mdevs were swept by this generation of the KubeVirt object, or a newer one."""
        await self._upkeep.swept(generation)

    def poke(self, vmi: Key) -> None:
        """Have a VMI looked at again."""
        if vmi in self._vmis and self._background:
            if (worker := self._workers.get(vmi)) is None:
                worker = self._workers[vmi] = _Worker()
                worker.task = self._spawn(self._work(vmi, worker))
            worker.due.set()

    @staticmethod
    async def _follow(
        client: Client, resource: Resource, see: Callable[[Document, bool], None], **selectors: str
    ) -> None:
        async for change in follow(client, resource, **selectors):
            if not change.synced:
                see(change.object, change.deleted)

    def _see_vmi(self, vmi: Document, deleted: bool) -> None:
        if not deleted:
            self._vmis[key(vmi)] = vmi
            self.poke(key(vmi))
        elif (known := self._vmis.get(key(vmi))) and known["metadata"]["uid"] == vmi["metadata"]["uid"]:
            self._gone.add(vmi["metadata"]["uid"])
            self.poke(key(vmi))

    def _see_pod(self, pod: Document, deleted: bool) -> None:
        if deleted:
            uid, launcher = self._launchers.forget(pod["metadata"]["uid"])
            if launcher is not None:
                self._spawn(launcher.stop())  # QEMU goes with its pod
        else:
            self._launchers.see(pod, self.knobs)
            uid = owner(pod)
        for name in [name for name, vmi in self._vmis.items() if vmi["metadata"]["uid"] == uid]:
            self.poke(name)

    async def _work(self, name: Key, worker: _Worker) -> None:
        """Look at one VMI whenever it is due, until it is deleted."""
        pause = self.knobs.first_retry
        while True:
            await worker.due.wait()
            worker.due.clear()
            vmi = self._vmis[name]
            if (uid := vmi["metadata"]["uid"]) in self._gone:
                await self._let_go(vmi)
                self._gone.remove(uid)
                if self._vmis[name]["metadata"]["uid"] == uid:  # else there is a new one of that name by now
                    del self._vmis[name], self._workers[name]
                    return
                worker.due.set()
            elif await self._look(vmi):
                pause = self.knobs.first_retry
            else:
                asyncio.get_running_loop().call_later(pause, worker.due.set)
                pause = min(2 * pause, self.knobs.longest_retry)

    async def _look(self, seen: Document) -> bool:
        """Have the controllers look at a VMI and write what they changed; False asks for another attempt."""
        try:
            if phase(seen) in FINAL:
                await self._let_go(seen)
                return True
            vmi = copy.deepcopy(seen)
            well = await self._control(vmi)
            return (vmi == seen or await self._write(vmi)) and well
        except Exception:
            log.exception("Looking after VMI %s on %s failed", seen["metadata"]["name"], self.node.name)
            return False

    async def _control(self, vmi: Document) -> bool:
        """Let each controller change what it is responsible for; tell whether all went well."""
        vmi.setdefault("status", {})
        current = self._launchers.current(vmi)
        target = self._launchers.named(movestate.state(vmi).get("targetPod", ""))
        try:
            await self._source.sync(vmi, current)
            ends, died = self._launchers.ends(current), current is None and bool(self._launchers.of(vmi))
            well = await self._guests.sync(vmi, current, pod_ends=ends, died=died)
            await self._target.sync(vmi, target)
        except SyncError as error:
            await self._say(vmi, "Warning", "SyncFailed", str(error))
            return False
        return well

    async def _write(self, vmi: Document) -> bool:
        try:
            await self._client.replace(VMIS.within(vmi["metadata"]["namespace"]), vmi)
        except ApiError as error:
            if not (error.conflict or error.not_found):
                log.warning("The status of VMI %s is not written: %s", vmi["metadata"]["name"], error)
            return error.not_found  # after a conflict the newer state comes by the watch, or has come
        return True

    async def _let_go(self, vmi: Document) -> None:
        """End what is left of a VMI here."""
        for launcher in self._launchers.of(vmi):
            await launcher.stop()
            await launcher.exit()

    async def _say(self, vmi: Document, kind: str, reason: str, message: str) -> None:
        about = {"apiVersion": API_VERSION, "kind": "VirtualMachineInstance", "metadata": vmi["metadata"]}
        await self._events.post(about, "Warning" if kind == "Warning" else "Normal", reason, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The played virt-handler of %s failed", self.node.name, exc_info=error)


class _Worker:
    """Looks at one VMI, one look at a time."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.due = asyncio.Event()
