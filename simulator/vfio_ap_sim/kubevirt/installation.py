"""KubeVirt's control plane, real: virt-api and virt-controller as processes on a control plane's API server.

What runs on the nodes is played by ``handler`` and ``launcher``; here it is only started and stopped.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from vfio_ap_kube.client import Client, Resource
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.watch import follow
from vfio_ap_sim.controlplane import ControlPlane, Located, default_binaries
from vfio_ap_sim.controlplane.commands import LOOPBACK
from vfio_ap_sim.controlplane.ports import free_ports
from vfio_ap_sim.controlplane.probes import https_ok
from vfio_ap_sim.controlplane.process import Server
from vfio_ap_sim.controlplane.tools import KUBEVIRT, OPTIONAL
from vfio_ap_sim.kubevirt import commands, manifests
from vfio_ap_sim.kubevirt.accounts import ServiceAccount
from vfio_ap_sim.kubevirt.api import KUBEVIRTS, NAMESPACE, Document
from vfio_ap_sim.kubevirt.commands import API, CONTROLLER
from vfio_ap_sim.kubevirt.handler import VirtHandler
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.launcher import Node
from vfio_ap_sim.kubevirt.settings import Settings, kubevirt, status

ACCOUNTS: Mapping[str, str] = {API: "kubevirt-apiserver", CONTROLLER: "kubevirt-controller"}
HEALTH: Mapping[str, str] = {API: "/apis/subresources.kubevirt.io/v1/healthz", CONTROLLER: "/leader"}
"""Where each says that it serves (components/deployments.go); virt-controller once it leads."""
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
API_SERVICES = Resource("apiregistration.k8s.io/v1", "apiservices")
DEADLINE = 90.0
GRACE = 2.0
"""Seconds from SIGTERM to SIGKILL: virt-api would wait five for a load balancer that is not there."""


class KubeVirt:
    """A running KubeVirt v1.8.4, at first without nodes; ``async with`` starts and ends it.

    Its objects stay in the API server when it ends; its processes and files do not. A stopped KubeVirt's webhooks
    fail closed, as real ones do.
    """

    def __init__(
        self,
        plane: ControlPlane,
        settings: Settings | None = None,
        *,
        binaries: Mapping[str, Located] | None = None,
    ) -> None:
        self.plane = plane
        self.settings = settings or Settings()
        self.handlers: dict[str, VirtHandler] = {}
        """By node."""
        self._binaries = binaries
        self._folder: Path | None = None
        self._servers: dict[str, Server] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Install KubeVirt and return when VMs can be created.

        Raises:
            LauncherError: a program cannot be had, or does not become ready; nothing is left running.
            ApiError: the API server refuses something.
        """
        located = self._binaries
        if located is None:
            located = await asyncio.to_thread(default_binaries().get_all, OPTIONAL)
        try:
            admin = from_kubeconfig(self.plane.kubeconfig)
            self.client = await self._stack.enter_async_context(Client(admin, manager="virt-operator"))
            self._folder = self.plane.run_dir / "kubevirt"
            self._folder.mkdir(mode=0o700, exist_ok=True)
            ports = dict(zip(ACCOUNTS, free_ports(len(ACCOUNTS)), strict=True))
            printed = await manifests.generated(located["kubevirt-manifests"].path)
            ca = self.plane.pki.ca.files.cert.read_bytes()
            all_of_it = manifests.arranged(printed, base64.b64encode(ca).decode(), ports[API])
            await self._apply(manifests.namespace(), *all_of_it.definitions)
            await self._all_true(DEFINITIONS, "Established", all_of_it.definitions)
            ours = (manifests.service(), manifests.authority(ca.decode()), kubevirt(self.settings))
            await self._apply(*ours, *all_of_it.objects)
            reported = kubevirt(self.settings) | {"status": status(self.settings, KUBEVIRT)}
            await self.client.merge(KUBEVIRTS, "kubevirt", reported, subresource="status")
            await asyncio.gather(
                *(self._run(name, located[name].path, ports[name], self._folder) for name in ACCOUNTS)
            )
            await self._apply(*all_of_it.callers)
            await self._all_true(API_SERVICES, "Available", all_of_it.callers)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the processes and remove their files. May be called twice."""
        await asyncio.gather(*(handler.stop() for handler in self.handlers.values()))
        self.handlers.clear()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        await asyncio.gather(*(server.stop(GRACE) for server in self._servers.values()))
        self._servers.clear()
        await self._stack.aclose()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def attach(self, node: Node, knobs: Knobs | None = None) -> VirtHandler:
        """Play virt-handler and virt-launcher on a node; return the handler. Raises ApiError and OSError."""
        kubelet = self.plane.client_kubeconfig(f"system:node:{node.name}", ["system:nodes"])
        handler = VirtHandler(node, self.plane.kubeconfig, kubelet, self.handlers.get, knobs)
        await handler.start()
        self.handlers[node.name] = handler
        return handler

    async def configure(self, settings: Settings) -> None:
        """Take other settings, as an administrator edits the KubeVirt object; return when the nodes have.

        Raises ApiError.
        """
        self.settings = settings
        changed = await self.client.apply(KUBEVIRTS, kubevirt(self.settings))
        await asyncio.gather(*(h.swept(changed["metadata"]["generation"]) for h in self.handlers.values()))

    @property
    def servers(self) -> Mapping[str, int | None]:
        """Process ids by name; None for one that does not run."""
        return {name: server.pid for name, server in self._servers.items()}

    def log(self, name: str) -> Path:
        """Return the file with the output of ``virt-api`` or ``virt-controller``."""
        return self._servers[name].log

    async def _run(self, name: str, program: Path, port: int, folder: Path) -> None:
        account = ServiceAccount(self.client, ACCOUNTS[name], folder)
        await account.prepare(self.plane.kubeconfig)
        self._keepers.append(asyncio.create_task(account.keep()))
        hosts = [f"{name}.{NAMESPACE}.svc", "localhost", LOOPBACK]
        serving = self.plane.pki.ca.serving(f"kubevirt-{name}", hosts)
        command = commands.BY_NAME[name](program, account.kubeconfig, port, serving)
        # They make temporary folders that they do not take away when they are killed.
        server = self._servers[name] = Server(name, command, folder / f"{name}.log", {"TMPDIR": str(folder)})
        server.start()
        await server.ready(https_ok(port, HEALTH[name], self.plane.pki.ca.files.cert), DEADLINE)

    async def _apply(self, *documents: Document) -> None:
        """Apply documents, all at once. Raises ApiError."""
        await asyncio.gather(*(self.client.apply(manifests.resource(found), found) for found in documents))

    async def _all_true(self, resource: Resource, condition: str, documents: list[Document]) -> None:
        """Return once each of ``documents`` that is in the collection has the condition. Raises TimeoutError."""
        missing = {d["metadata"]["name"] for d in documents if manifests.resource(d) == resource}
        changes = follow(self.client, resource)
        try:
            async with asyncio.timeout(DEADLINE):
                async for change in changes:
                    found = change.object.get("status", {}).get("conditions") or ()
                    if any(c["type"] == condition and c["status"] == "True" for c in found):
                        missing.discard(change.object["metadata"]["name"])
                    if not missing:
                        return
        finally:
            await changes.aclose()
