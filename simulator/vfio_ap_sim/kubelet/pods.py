"""One pod on the node: admitted, run, reported, ended.

Writes to the API server what the kubelet writes. Which pods there are is told from outside; how a container is
started is the launcher's business, and what its life is the container's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from vfio_ap_kube.client import PODS, ApiError
from vfio_ap_sim.kubelet import podstatus
from vfio_ap_sim.kubelet.containers import Container, Started, View, stamp
from vfio_ap_sim.kubelet.devices import AdmissionError
from vfio_ap_sim.kubelet.environment import ConfigError
from vfio_ap_sim.kubelet.launch import Launcher, Machine
from vfio_ap_sim.kubelet.node import STRATEGIC
from vfio_ap_sim.kubelet.processes import PlayedProcess

Document = dict[str, Any]

RETRY = 1.0
"""Seconds until what failed against the API server is tried again."""

log = logging.getLogger(__name__)


class PodWorker:
    """Takes one pod from admission to its end; ``run`` returns when the node is done with it."""

    def __init__(self, machine: Machine, pod: Document) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self.uid: str = meta["uid"]
        self._machine = machine
        self._launcher = Launcher(machine, pod)
        self._pod = pod
        self._gone = False
        self._began = stamp()
        self._written: Document = {}
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        policy = spec.get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self._init = [
            self._container(c, c.get("restartPolicy", init_policy)) for c in spec.get("initContainers", ())
        ]
        self._main = [self._container(c, policy) for c in spec["containers"]]

    @property
    def logs(self) -> Path:
        """Folder with one file of output a container."""
        return self._launcher.logs

    @property
    def volumes(self) -> Path:
        """Folder with one folder a volume."""
        return self._launcher.volumes

    def update(self, pod: Document) -> None:
        """Take the pod's newest state; an older one is ignored."""
        if int(pod["metadata"]["resourceVersion"]) >= int(self._pod["metadata"]["resourceVersion"]):
            self._pod = pod
            self._wake.set()

    def vanish(self) -> None:
        """Know that the pod was deleted without waiting for us."""
        self._gone = True
        self._wake.set()

    def exit(self, code: int) -> None:
        """End every container that only counts as running."""
        for container in self._main:
            if isinstance(container.process, PlayedProcess):
                container.process.exit(code)

    def kill(self) -> None:
        """Kill the process of every container."""
        for container in self._main:
            if container.process is not None:
                container.process.kill()

    async def run(self) -> None:
        """Live the pod's life."""
        try:
            if self._deleted or await self._admit():
                live = self._spawn(self._live())
                await self._report()
                live.cancel()
                await self._end()
        finally:
            await self._stop_containers(0 if self._gone else self._machine.knobs.stop_grace)
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._launcher.clear()
            self._machine.devices.release(self.uid)

    @property
    def _deleted(self) -> bool:
        return "deletionTimestamp" in self._pod["metadata"]

    async def _admit(self) -> bool:
        """Get the pod's devices, or write why not."""
        try:
            await self._machine.devices.allocate(self._pod)
        except AdmissionError as error:
            reason, message = "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"
            status = podstatus.rejection(self._pod, reason, message, self._began)
            while not (self._gone or await self._write(status)):  # noqa: ASYNC110 - the write is what it waits for
                await asyncio.sleep(RETRY)
            about = {"apiVersion": "v1", "kind": "Pod", "metadata": self._pod["metadata"]}
            await self._machine.events.post(about, "Warning", reason, message)
            return False
        return True

    async def _live(self) -> None:
        """Prepare, run the init containers one by one and then all others together."""
        while True:
            try:
                await self._launcher.prepare(self._pod)
                break
            except (ApiError, ConfigError, OSError, KeyError) as error:
                log.warning("Pod %s is not prepared: %r", self.name, error)
                await asyncio.sleep(RETRY)
        for container in self._init:
            self._spawn(container.run())
            sidecar = container.spec.get("restartPolicy") == "Always"
            while not (container.view.final or (sidecar and container.view.started)):
                await self._news.wait()
            if container.view.final and container.view.exit_code:
                return
        for container in self._main:
            self._spawn(container.run())

    async def _report(self) -> None:
        """Keep the pod's status current until the pod is deleted."""
        while not (self._gone or self._deleted):
            self._wake.clear()
            await self._publish()
            if podstatus.phase(self._pod, *self._views()) in ("Succeeded", "Failed"):
                self._machine.devices.release(self.uid)
            await self._wake.wait()
            self._launcher.refresh(self._pod)

    async def _end(self) -> None:
        """End the containers within the pod's grace, write the last status and give the pod up."""
        grace = float(self._pod["metadata"].get("deletionGracePeriodSeconds", 30))
        stopping = asyncio.create_task(self._stop_containers(grace))
        stopping.add_done_callback(lambda _: self._wake.set())
        while not (stopping.done() or self._gone):
            self._wake.clear()
            await self._wake.wait()
        if self._gone:
            stopping.cancel()
            return
        # First, for with the last status the scheduler may send the next pod for the same device.
        self._machine.devices.release(self.uid)
        await self._publish()
        path = PODS.within(self.namespace).path(self.name)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while True:
            try:
                await self._machine.client.request("DELETE", path, body=body)
                return
            except ApiError as error:
                if error.not_found or error.conflict:
                    return
                log.warning("Pod %s is not given up: %s", self.name, error)
                await asyncio.sleep(RETRY)

    async def _publish(self) -> None:
        """Write the status if it changed; on failure come again."""
        init, main = self._views()
        address = self._machine.knobs.address
        status = podstatus.status(self._pod, init, main, address=address, began=self._began, now=stamp())
        if status != self._written and not await self._write(status):
            asyncio.get_running_loop().call_later(RETRY, self._wake.set)

    async def _write(self, status: Document) -> bool:
        path = PODS.within(self.namespace).path(self.name, "status")
        patch = {"metadata": {"uid": self.uid}, "status": status}
        try:
            newest = await self._machine.client.request("PATCH", path, body=patch, content_type=STRATEGIC)
        except ApiError as error:
            if error.not_found or error.conflict:
                return True  # the name is another pod's, or nobody's, by now; the watch will say so
            log.warning("The status of pod %s is not written: %s", self.name, error)
            return False
        self._written = status
        self.update(newest)
        return True

    async def _stop_containers(self, grace: float) -> None:
        await asyncio.gather(*(container.stop(grace) for container in self._main))
        await asyncio.gather(*(container.stop(grace) for container in self._init))

    def _container(self, spec: Document, policy: str) -> Container:
        async def start() -> Started:
            return await self._launcher.start(self._pod, spec)

        return Container(spec, policy, start, self._machine.knobs, self._changed)

    def _views(self) -> tuple[dict[str, View], dict[str, View]]:
        return {c.name: c.view for c in self._init}, {c.name: c.view for c in self._main}

    def _changed(self) -> None:
        self._wake.set()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Playing pod %s failed", self.name, exc_info=error)
