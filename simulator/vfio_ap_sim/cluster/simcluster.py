"""The control plane, the chart and the nodes together, and a way to wait for what the API server will say."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from vfio_ap_kube.client import NODES, PODS, Client, Document, Resource
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster.nodes import SimNode
from vfio_ap_sim.controlplane import ControlPlane
from vfio_ap_sim.controlplane.ports import free_ports
from vfio_ap_sim.kernel import Machine

SYSTEM = "vfio-ap-system"
"""Namespace of the release."""
OPERATOR = "app.kubernetes.io/component=operator"
"""Selector of the operator's pods."""
SERVICES = Resource("v1", "services")
MATRICES = Resource("ap.s390x.io/v1alpha1", "apmatrices")
APNODES = Resource("ap.s390x.io/v1alpha1", "apnodes")

_PORTS = ("operator.healthPort", "agent.healthPort", "admission.webhookPort")
"""Values of the chart that are ports."""


class TookTooLongError(AssertionError):
    """What was awaited did not come; the message has the last state that was seen."""


class SimCluster:
    """A running cluster; ``async with`` starts the control plane and ends everything."""

    def __init__(self, chart: Path, *, plane: ControlPlane | None = None) -> None:
        self._chart = chart
        self._own = plane is None
        self.plane = plane or ControlPlane()
        self.nodes: dict[str, SimNode] = {}
        self.client: Client
        self._stack = AsyncExitStack()
        self._ports: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Start the control plane, without nodes and without the product."""
        if self._own:
            await self._stack.enter_async_context(self.plane)
        credentials = from_kubeconfig(self.plane.kubeconfig)
        self.client = await self._stack.enter_async_context(Client(credentials, manager="onlooker"))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the nodes, then the control plane."""
        try:
            await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        finally:
            await self._stack.aclose()

    async def install(self, **values: str) -> str:
        """Install the chart by the real helm; return what helm said. Raises RuntimeError.

        Without the webhook for migrations unless a value says so: nobody plays kube-proxy, see ``serve_webhook``.
        """
        # Pods are processes of this machine, where a server of others may listen on a usual port of all addresses.
        self._ports = self._ports or dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
        values = {"admission.earlyRefusal": "false"} | self._ports | values
        command = ["upgrade", "--install", "vfio-ap", str(self._chart), "--namespace", SYSTEM]
        command += ["--create-namespace", "--kubeconfig", str(self.plane.kubeconfig)]
        command += [f"--set={name}={value}" for name, value in values.items()]
        process = await asyncio.create_subprocess_exec(
            self.plane.binaries["helm"],
            *command,
            # Not the user's own HELM_KUBEAPISERVER, HELM_KUBECONTEXT …: they would name another cluster.
            env={name: value for name, value in os.environ.items() if not name.startswith("HELM_")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"helm ended with {process.returncode}: {output.decode().strip()}")
        return output.decode()

    async def serve_webhook(self) -> None:
        """Lead the API server to the operator's webhook, where kube-proxy would, once its pod has an address."""
        address = await self._operator_address()
        route = {"type": "ExternalName", "externalName": address, "clusterIP": None, "clusterIPs": None}
        await self.client.merge(SERVICES.within(SYSTEM), "vfio-ap-operator", {"spec": route})

    async def _operator_address(self, limit: float = 60) -> str:
        changes = follow(self.client, PODS.within(SYSTEM), labelSelector=OPERATOR)
        try:
            async with asyncio.timeout(limit):
                async for change in changes:
                    pod = {} if change.synced or change.deleted else change.object
                    address: str = (pod.get("status") or {}).get("podIP") or ""
                    if address and "deletionTimestamp" not in pod["metadata"]:
                        return address
        except TimeoutError:
            raise TookTooLongError(f"the operator had no address within {limit:g} s{self._ended()}") from None
        finally:
            await changes.aclose()
        raise AssertionError("a followed collection does not end")

    async def add_node(
        self,
        name: str,
        machine: Machine,
        *,
        labels: Mapping[str, str] | None = None,
        profile: str = "K7.1",
        images: Mapping[str, Sequence[str]] | None = None,
    ) -> SimNode:
        """Start a node and return it once it is Ready; ``images`` have programs on it beside the product's."""
        number = len(self.nodes) + 1
        kubeconfig = self.plane.client_kubeconfig(f"system:node:{name}", ["system:nodes"])
        folder = self.plane.run_dir / "n" / str(number)
        folder.mkdir(parents=True)
        # Each node has an address of its own, so that pods of two nodes may have the same port; and so has each
        # cluster, by its API server's port, for two may run on one machine.
        port = self.plane.ports.apiserver
        node = SimNode(
            name,
            machine,
            kubeconfig,
            folder,
            address=f"127.{port >> 8}.{port & 255}.{number}",
            labels=labels or {},
            profile=profile,
            images=images,
        )
        self.nodes[name] = node
        await node.start()
        await self.until(NODES, name, lambda n: condition(n, "Ready") == "True", "Ready")
        return node

    async def apply(self, document: Document) -> None:
        """``kubectl apply`` a document. Raises CommandFailedError with the API server's words."""
        await self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    async def until(
        self,
        resource: Resource,
        name: str,
        holds: Callable[[Document], bool],
        what: str,
        *,
        limit: float = 60,
    ) -> Document:
        """Return the object once ``holds`` is true of it, by watch. Raises TookTooLongError."""
        last: Document = {}
        changes = follow(self.client, resource, fieldSelector=f"metadata.name={name}")
        try:
            async with asyncio.timeout(limit):
                async for change in changes:
                    if change.synced:
                        continue
                    last = {} if change.deleted else change.object
                    if last and holds(last):
                        return last
        except TimeoutError:
            seen = json.dumps(last.get("status", last), indent=1)[:3000]
            text = f"{resource.plural} {name} was not {what} within {limit:g} s{self._ended()}; last seen: {seen}"
            raise TookTooLongError(text) from None
        finally:
            await changes.aclose()
        raise AssertionError("a followed collection does not end")

    async def gone(self, resource: Resource, name: str, *, limit: float = 60) -> None:
        """Return once the object is not there, by watch. Raises TookTooLongError."""
        present = True
        changes = follow(self.client, resource, fieldSelector=f"metadata.name={name}")
        try:
            async with asyncio.timeout(limit):
                seen = False
                async for change in changes:
                    if change.synced:
                        present = seen
                    else:
                        seen = present = not change.deleted
                    if not present:
                        return
        except TimeoutError:
            text = f"{resource.plural} {name} was still there after {limit:g} s{self._ended()}"
            raise TookTooLongError(text) from None
        finally:
            await changes.aclose()

    def _ended(self) -> str:
        """Return which servers run no more, which explains any wait; the empty text when all do."""
        ended = [name for name, pid in self.plane.servers.items() if pid is None]
        return f" ({', '.join(ended)} runs no more)" if ended else ""

    async def ready(self, *names: str, limit: float = 60) -> list[Document]:
        """Return these APMatrix objects once each is Ready at its newest generation."""
        return await asyncio.gather(
            *(self.until(MATRICES, name, is_ready, "Ready", limit=limit) for name in names)
        )

    async def reported(self, *names: str, limit: float = 60) -> list[Document]:
        """Return these APNodes once their agents have reported and are Ready."""
        waits = (
            self.until(APNODES, n, lambda d: condition(d, "Ready") == "True", "Ready", limit=limit) for n in names
        )
        return await asyncio.gather(*waits)


def condition(document: Document, kind: str) -> str:
    """Return the status of a condition, the empty text when there is none."""
    found: list[dict[str, Any]] = (document.get("status") or {}).get("conditions") or []
    return next((str(c["status"]) for c in found if c["type"] == kind), "")


def is_ready(document: Document) -> bool:
    """Tell whether an APMatrix is Ready, as it is now and not as it was before an edit."""
    generation = document["metadata"].get("generation")
    observed = (document.get("status") or {}).get("observedGeneration")
    return observed == generation and condition(document, "Ready") == "True"


def matrix(name: str, **spec: object) -> Document:
    """Return an APMatrix document."""
    return {
        "apiVersion": MATRICES.api_version,
        "kind": "APMatrix",
        "metadata": {"name": name},
        "spec": spec,
    }
