"""A played virt-handler: one node's part of KubeVirt, from ``start`` to ``stop``.

It follows VMIs, launcher pods and the KubeVirt object, and has the controllers look at what changed; what is done
about a guest is in ``guests`` and ``moves``. It writes as virt-handler's service account with its node's name.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from vfio_ap.hostops import HostOps
from vfio_ap_kube.client import NODES, PODS, ApiError, Client, Resource
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.watch import follow
from vfio_ap_sim.kernel import InProcessHost
from vfio_ap_sim.kubevirt import heartbeat, movestate, sweep
from vfio_ap_sim.kubevirt.accounts import as_handler
from vfio_ap_sim.kubevirt.api import API_VERSION, CREATED_BY, FINAL, KUBEVIRTS, LAUNCHER, VMIS, Document, key
from vfio_ap_sim.kubevirt.guests import GuestController
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.launcher import Node, VirtLauncher
from vfio_ap_sim.kubevirt.libvirterror import SyncError
from vfio_ap_sim.kubevirt.moves import SourceController, TargetController
from vfio_ap_sim.kubevirt.nodedevices import NodeDevices
from vfio_ap_sim.kubevirt.vmistatus import now, phase

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
        self._admin = admin
        self._kubelet = kubelet
        address = node.kubelet.knobs.address
        self._source = SourceController(node.name, peer, self.poke, self._say)
        self._target = TargetController(node.name, address, self._say)
        self._guests = GuestController(node.name, self._say)
        self._host: HostOps = InProcessHost(node.control.kernel, comm="virt-handler")
        self._devices = NodeDevices(node.kubelet.device_plugins)
        self._vmis: dict[Key, Document] = {}
        self._gone: set[str] = set()
        """Uids of VMIs that were deleted and whose guests may be left."""
        self._pods: dict[str, Document] = {}
        self._launchers: dict[str, VirtLauncher] = {}
        self._workers: dict[Key, _Worker] = {}
        self._kubevirt: Document | None = None
        self._configured = asyncio.Event()
        self._swept = 0
        """Generation of the KubeVirt object by which mdevs were swept last."""
        self._news = asyncio.Condition()
        self._background: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Register devices, label the node and begin to look after guests. Raises ApiError and OSError."""
        handler = as_handler(from_kubeconfig(self._admin), self.node.name)
        self._client = await self._stack.enter_async_context(Client(handler, manager="virt-handler"))
        reader = Client(from_kubeconfig(self._kubelet), manager="virt-handler")
        await self._stack.enter_async_context(reader)
        self._events = EventPoster(self._client, "virt-handler", self.node.name)
        await self._devices.start()
        self._stack.push_async_callback(self._devices.stop)
        await self._client.merge(NODES, self.node.name, {"metadata": {"labels": heartbeat.labels()}})
        here = {"fieldSelector": f"spec.nodeName={self.node.name}", "labelSelector": LAUNCHER}
        for work in (
            self._beat(),
            self._keep_swept(),
            self._follow(self._client, VMIS, self._see_vmi),
            self._follow(reader, PODS, self._see_pod, **here),
            self._follow(self._client, KUBEVIRTS, self._see_kubevirt),
        ):
            self._background.append(self._spawn(work))

    async def stop(self) -> None:
        """End as a node without power does: guests and all, and nobody is told. Idempotent."""
        tasks = [*self._background, *(worker.task for worker in self._workers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.close()
        self._background.clear()
        self._workers.clear()
        await self._stack.aclose()

    def launcher(self, pod: str) -> VirtLauncher | None:
        """Return the launcher in the pod of that name, once the pod runs."""
        return next(
            (self._launcher(found) for found in self._pods.values() if found["metadata"]["name"] == pod), None
        )

    def guest(self, namespace: str, name: str) -> VirtLauncher | None:
        """Return the launcher that has a VMI's guest, if the guest is here."""
        vmi = self._vmis.get((namespace, name))
        return None if vmi is None else self._current(vmi)

    async def swept(self, generation: int) -> None:
        """Return once mdevs were swept by this generation of the KubeVirt object, or a newer one."""
        async with self._news:
            await self._news.wait_for(lambda: self._swept >= generation)

    def poke(self, vmi: Key) -> None:
        """Have a VMI looked at again."""
        if vmi in self._vmis:
            worker = self._workers.get(vmi)
            if worker is None:
                worker = self._workers[vmi] = _Worker()
                worker.task = self._spawn(self._work(vmi, worker))
            worker.due.set()

    # -- what is followed

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
        uid = pod["metadata"]["uid"]
        known = self._pods.pop(uid, None)
        if deleted:
            if (launcher := self._launchers.pop(uid, None)) is not None:
                self._spawn(launcher.stop())  # QEMU goes with its pod
        else:
            self._pods[uid] = known = pod
        owner = known["metadata"]["labels"].get(CREATED_BY) if known else None
        for name, vmi in self._vmis.items():
            if vmi["metadata"]["uid"] == owner:
                self.poke(name)

    def _see_kubevirt(self, kubevirt: Document, deleted: bool) -> None:
        self._kubevirt = None if deleted else kubevirt
        self._configured.set()

    # -- one VMI

    async def _work(self, name: Key, worker: _Worker) -> None:
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
            elif await self._sync(vmi):
                pause = self.knobs.first_retry
            else:
                asyncio.get_running_loop().call_later(pause, worker.due.set)
                pause = min(2 * pause, self.knobs.longest_retry)

    async def _sync(self, seen: Document) -> bool:
        """Have the controllers look at a VMI and write what they changed; False asks for another attempt."""
        if phase(seen) in FINAL:
            await self._let_go(seen)
            return True
        vmi = copy.deepcopy(seen)
        vmi.setdefault("status", {})
        current = self._current(vmi)
        failed = ""
        try:
            await self._source.sync(vmi, current)
            failed = await self._guests.sync(vmi, current, pod_ends=self._pod_ends(current))
            await self._target.sync(vmi, self.launcher(movestate.state(vmi).get("targetPod", "")))
        except SyncError as error:
            failed = str(error)
            await self._say(vmi, "Warning", "SyncFailed", failed)
        if vmi != seen:
            try:
                await self._client.replace(VMIS.within(vmi["metadata"]["namespace"]), vmi)
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    log.warning("The status of VMI %s is not written: %s", vmi["metadata"]["name"], error)
                return error.not_found  # after a conflict the newer state comes by the watch, or has come
        return not failed

    async def _let_go(self, vmi: Document) -> None:
        """End what is left of a VMI here."""
        for pod in [pod for pod in self._pods.values() if _owner(pod) == vmi["metadata"]["uid"]]:
            if (launcher := self._launcher(pod)) is not None:
                await launcher.stop()
                await launcher.exit()

    def _current(self, vmi: Document) -> VirtLauncher | None:
        """Return the launcher with the VMI's guest, else the one that is to start it, else the one that had it."""
        target = movestate.state(vmi).get("targetPod")
        pods = [pod for pod in self._pods.values() if _owner(pod) == vmi["metadata"]["uid"]]
        found = [launcher for pod in pods if (launcher := self._launcher(pod)) is not None and not launcher.ended]
        found = [launcher for launcher in found if launcher.alive or launcher.left or launcher.pod != target]
        return min(found, key=lambda launcher: (not launcher.alive, launcher.left), default=None)

    def _launcher(self, pod: Document) -> VirtLauncher | None:
        """Return the launcher of a pod that runs."""
        uid = pod["metadata"]["uid"]
        if uid not in self._launchers and pod.get("status", {}).get("phase") == "Running":
            self._launchers[uid] = VirtLauncher(self.node, pod, self.knobs)
        return self._launchers.get(uid)

    def _pod_ends(self, launcher: VirtLauncher | None) -> bool:
        pod = self._pods.get(launcher.uid) if launcher else None
        return pod is not None and "deletionTimestamp" in pod["metadata"]

    # -- the node

    async def _beat(self) -> None:
        while True:
            try:
                patch = heartbeat.beat(now(), schedulable=True)
                await self._client.merge(NODES, self.node.name, patch)
            except ApiError as error:
                log.warning("No heartbeat for node %s: %s", self.node.name, error)
            await asyncio.sleep(self.knobs.heartbeat)

    async def _keep_swept(self) -> None:
        """Remove mdevs that are not KubeVirt's, at each heartbeat and whenever KubeVirt is configured anew."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.knobs.heartbeat):
                    await self._configured.wait()
            self._configured.clear()
            if (kubevirt := self._kubevirt) is None:
                continue
            await sweep.sweep(self._host, kubevirt)
            async with self._news:
                self._swept = kubevirt["metadata"]["generation"]
                self._news.notify_all()

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


def _owner(pod: Document) -> str:
    return str(pod["metadata"]["labels"].get(CREATED_BY, ""))
