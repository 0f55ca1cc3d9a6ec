"""The played kubelet as a whole: one node from ``start`` to ``stop``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

from vfio_ap_kube.client import PODS, Client
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.kubelet import KUBELET_SOCKET
from vfio_ap_kube.kubelet.sockets import UnixServer
from vfio_ap_kube.watch import follow
from vfio_ap_sim.kubelet.devices import Allocation, DeviceManager
from vfio_ap_sim.kubelet.launch import Machine
from vfio_ap_sim.kubelet.node import NodeKeeper
from vfio_ap_sim.kubelet.podresources import PodResources
from vfio_ap_sim.kubelet.pods import PodWorker
from vfio_ap_sim.kubelet.settings import Knobs
from vfio_ap_sim.kubelet.tokens import read_cluster

CONNECTIONS = 32

log = logging.getLogger(__name__)


class PlayedKubelet:
    """A node of a real API server whose containers are processes of this machine.

    Use ``start`` and ``stop``, or ``async with``. Nothing of the Node object is removed at the end: to the cluster
    the node has gone silent.
    """

    def __init__(
        self,
        name: str,
        kubeconfig: Path,
        directory: Path,
        *,
        labels: Mapping[str, str] | None = None,
        image_map: Mapping[str, Sequence[str]] | None = None,
        extra_env: Mapping[str, str] | None = None,
        knobs: Knobs | None = None,
    ) -> None:
        """Prepare.

        Args:
            name: the Node's name.
            kubeconfig: credentials of ``system:node:<name>`` in group ``system:nodes``.
            directory: this node's own folder; a short path, for it holds unix sockets. It gets ``device-plugins``,
                ``pod-resources``, ``pods`` and ``logs``.
            labels: more labels for the Node.
            image_map: image repository, without tag, to the command that stands for the image's program. A pod's
                ``args``, and its ``command`` without the first word, are appended.
            extra_env: variables for every process, over the pod's own; ``{pod}`` becomes the pod's folder, in
                which ``volumes/<name>`` are its volumes, and ``{mount:PATH}`` what the container has mounted at
                PATH, from that folder; a variable is left out where nothing is.
            knobs: times and other settings.
        """
        self.name = name
        self.directory = directory
        self.knobs = knobs or Knobs()
        self.device_plugins = directory / "device-plugins"
        """The folder a device plugin on this node is to be given."""
        self.pod_resources = directory / "pod-resources" / KUBELET_SOCKET
        self._kubeconfig = kubeconfig
        self._labels = labels or {}
        self._image_map = image_map or {}
        self._extra_env = extra_env or {}
        self._devices = DeviceManager(self.device_plugins, grace=self.knobs.plugin_grace)
        self._lister = UnixServer(self.pod_resources, [PodResources(self._devices)])
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Register the Node, serve the sockets and start to run pods.

        Raises:
            ApiError: the API server refuses the Node.
            CredentialsError, OSError: the kubeconfig or the folder cannot be used.
        """
        client = Client(from_kubeconfig(self._kubeconfig), manager="kubelet", connections=CONNECTIONS)
        await self._stack.enter_async_context(client)
        try:
            self.pod_resources.parent.mkdir(parents=True, exist_ok=True)
            await self._devices.start()
            await self._lister.start()
            node = NodeKeeper(client, self.name, self._labels, self._devices, self.knobs)
            await node.register()
        except BaseException:
            await self.stop()
            raise
        machine = Machine(
            client=client,
            cluster=read_cluster(self._kubeconfig),
            events=EventPoster(client, "kubelet", self.name),
            devices=self._devices,
            folder=self.directory,
            knobs=self.knobs,
            image_map=self._image_map,
            extra_env=self._extra_env,
        )
        for work in (node.keep_status(), node.keep_lease(), self._follow_pods(client, machine)):
            self._background.append(self._spawn(work))

    async def stop(self) -> None:
        """End every process and tell the API server nothing, as a node without power. Idempotent."""
        tasks = [*self._background, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._background.clear()
        self._tasks.clear()
        self._workers.clear()
        await self._lister.close()
        await self._devices.stop()
        await self._stack.aclose()

    async def restart(self) -> None:
        """Restart the kubelet but not its containers: its sockets are made anew, plugins must register again."""
        await self._lister.close()
        await self._devices.stop()
        await self._devices.start()
        await self._lister.start()

    def exit(self, namespace: str, name: str, code: int = 0) -> None:
        """End the containers of a pod that only count as running, with this exit code.

        Raises:
            KeyError: no such pod runs here.
        """
        self._worker(namespace, name).exit(code)

    def kill(self, namespace: str, name: str) -> None:
        """Kill the processes of a pod's containers, as a crash does; they are restarted by their policy.

        Raises:
            KeyError: no such pod runs here.
        """
        self._worker(namespace, name).kill()

    def log(self, namespace: str, name: str, container: str) -> Path:
        """Return the file with a container's output. Raises KeyError where no such pod runs here."""
        return self._worker(namespace, name).logs / f"{container}.log"

    def volumes(self, namespace: str, name: str) -> Path:
        """Return the folder that has a pod's volumes by name. Raises KeyError where no such pod runs here."""
        return self._worker(namespace, name).volumes

    def held(self, namespace: str, name: str, container: str) -> tuple[Allocation, ...]:
        """Return the devices a container holds. Raises KeyError where no such pod runs here."""
        return self._devices.held(self._worker(namespace, name).uid, container)

    async def _follow_pods(self, client: Client, machine: Machine) -> None:
        async for change in follow(client, PODS, fieldSelector=f"spec.nodeName={self.name}"):
            if change.synced:
                continue
            pod, uid = change.object, change.object["metadata"]["uid"]
            if change.deleted:
                if (worker := self._workers.pop(uid, None)) is not None:
                    worker.vanish()
            elif (worker := self._workers.get(uid)) is not None:
                worker.update(pod)
            elif pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                worker = self._workers[uid] = PodWorker(machine, pod)
                self._tasks[uid] = self._spawn(worker.run())
                self._tasks[uid].add_done_callback(partial(self._forget, uid))

    def _forget(self, uid: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(uid, None)

    def _worker(self, namespace: str, name: str) -> PodWorker:
        for worker in self._workers.values():
            if (worker.namespace, worker.name) == (namespace, name):
                return worker
        raise KeyError(f"{namespace}/{name}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The played kubelet %s failed", self.name, exc_info=error)
