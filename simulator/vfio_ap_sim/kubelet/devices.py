"""The kubelet's device manager: who registered, what there is, and which pod holds it.

Played after pkg/kubelet/cm/devicemanager (manager.go, plugin/v1beta1/server.go) of Kubernetes 1.36: a lost plugin
makes its devices unhealthy (capacity stays, allocatable is 0), after a grace period the resource is set to 0 for
good; sockets in the directory are removed at start; allocations outlive a restart. Does not talk to the API
server.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from vfio_ap_kube.kubelet import API_VERSION, KUBELET_SOCKET
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import RegistrationBase
from vfio_ap_kube.kubelet.sockets import UnixServer
from vfio_ap_sim.kubelet.plugin_client import PluginClient

if TYPE_CHECKING:
    from grpclib.server import Stream

DIAL_DEADLINE: Final = 10.0
_EXTENDED = re.compile(
    r"(?!([^/]*\.)?kubernetes\.io/)[a-z0-9][-.a-z0-9]*/[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?"
)

log = logging.getLogger(__name__)


class AdmissionError(Exception):
    """A pod cannot have the devices it asks for; the text is what the kubelet writes into the pod's status."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one container holds of one resource."""

    resource: str
    devices: tuple[str, ...]
    envs: Mapping[str, str]
    host_paths: tuple[str, ...]
    """Device nodes of the host that the container gets."""


@dataclass(slots=True)
class _Resource:
    client: PluginClient | None = None
    """None once the plugin is gone."""
    devices: dict[str, bool] = field(default_factory=dict)
    """Device ID to healthy."""
    expiry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Holder:
    namespace: str
    name: str
    containers: dict[str, list[Allocation]] = field(default_factory=dict)


class DeviceManager(RegistrationBase):
    """Serves Registration in ``directory`` and keeps account of devices."""

    def __init__(self, directory: Path, *, grace: float, changed: Callable[[], None] = lambda: None) -> None:
        """Prepare; ``changed`` is called when capacity or allocatable may have changed."""
        self._directory = directory
        self._grace = grace
        self._changed = changed
        self._resources: dict[str, _Resource] = {}
        self._holders: dict[str, _Holder] = {}
        self._removed: set[str] = set()
        self._server: UnixServer | None = None
        self._admission = asyncio.Lock()

    async def start(self) -> None:
        """Remove every socket in the directory, as a kubelet that starts does, and serve."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if path.is_socket():
                path.unlink()
        for name, resource in self._resources.items():
            self._await_expiry(name, resource)
        self._server = UnixServer(self._directory / KUBELET_SOCKET, [self])
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving and drop every plugin; known resources and allocations stay, as in a checkpoint."""
        if self._server is not None:
            await self._server.close()
            self._server = None
        for resource in self._resources.values():
            if resource.expiry is not None:
                resource.expiry.cancel()
                resource.expiry = None
            if resource.client is not None:
                await resource.client.close()
            resource.client, resource.devices = None, {}
        self._changed()

    async def hang_up(self, name: str) -> None:
        """Lose the connection to one plugin, as by an error on the wire; a kubelet does not dial again."""
        resource = self._resources[name]
        if (client := resource.client) is not None:
            await client.close()
            self._gone(name, resource, client)

    def capacity(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return capacity and allocatable of every resource a plugin registered; 0 for those that are gone."""
        capacity = dict.fromkeys(self._removed, 0)
        allocatable = dict.fromkeys(self._removed, 0)
        for name, resource in self._resources.items():
            capacity[name] = len(resource.devices)
            allocatable[name] = sum(resource.devices.values())
        return capacity, allocatable

    @property
    def removed(self) -> frozenset[str]:
        """Resources that are gone and whose zero was not acknowledged."""
        return frozenset(self._removed)

    def acknowledge(self, removed: Collection[str]) -> None:
        """Say no more of these removed resources: their zero was written once, as the kubelet does."""
        self._removed -= {*removed}

    async def Register(self, stream: Stream[pb.RegisterRequest, pb.Empty]) -> None:
        """Take a plugin in: check its request, dial it, and answer."""
        request = await stream.recv_message()
        if request is None or request.version != API_VERSION:
            version = request.version if request else ""
            raise GRPCError(
                Status.UNKNOWN,
                f'requested API version "{version}" is not supported by kubelet. '
                f'Supported version is ["{API_VERSION}"]',
            )
        if not _EXTENDED.fullmatch(request.resource_name):
            raise GRPCError(Status.UNKNOWN, f"the ResourceName {request.resource_name!r} is invalid")
        name = request.resource_name
        resource = self._resources.setdefault(name, _Resource())
        client = PluginClient(
            self._directory / request.endpoint,
            lambda devices: self._update(resource, client, devices),
            lambda: self._gone(name, resource, client),
        )
        if resource.client is not None:
            await resource.client.close()
        resource.client = client
        try:
            async with asyncio.timeout(DIAL_DEADLINE):
                await client.connect()
        except (GRPCError, OSError, ProtocolError, StreamTerminatedError) as error:
            self._gone(name, resource, client)
            raise GRPCError(Status.UNKNOWN, f"failed to dial device plugin: {error}") from error
        if resource.expiry is not None:
            resource.expiry.cancel()
            resource.expiry = None
        self._removed.discard(name)
        await stream.send_message(pb.Empty())

    async def allocate(self, pod: Mapping[str, Any]) -> None:
        """Give a pod the devices it asks for, or none.

        Raises:
            AdmissionError: a plugin refused, or there are not enough.
        """
        async with self._admission:
            await self._admit(pod)

    async def _admit(self, pod: Mapping[str, Any]) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        uid: str = meta["uid"]
        holder = self._holders.setdefault(uid, _Holder(meta["namespace"], meta["name"]))
        try:
            for container in [*spec.get("initContainers", ()), *spec["containers"]]:
                limits: Mapping[str, str] = container.get("resources", {}).get("limits", {})
                for name in sorted(limits.keys() & self._resources.keys()):
                    held = holder.containers.setdefault(container["name"], [])
                    if not any(allocation.resource == name for allocation in held):
                        held.append(await self._allocate(name, int(limits[name])))
        except AdmissionError:
            self.release(uid)
            raise

    def held(self, uid: str, container: str) -> tuple[Allocation, ...]:
        """Return what a container of a pod holds."""
        holder = self._holders.get(uid)
        return tuple(holder.containers.get(container, ())) if holder else ()

    def holders(self) -> list[tuple[str, str, dict[str, tuple[Allocation, ...]]]]:
        """Return namespace, name and allocations by container of every pod that was admitted and not released."""
        return [
            (h.namespace, h.name, {container: tuple(held) for container, held in h.containers.items()})
            for h in self._holders.values()
        ]

    def release(self, uid: str) -> None:
        """Take back what a pod holds; the pod has ended."""
        self._holders.pop(uid, None)

    async def _allocate(self, name: str, needed: int) -> Allocation:
        resource = self._resources[name]
        healthy = sorted(device for device, is_healthy in resource.devices.items() if is_healthy)
        if not healthy or resource.client is None:
            raise AdmissionError(f"no healthy devices present; cannot allocate unhealthy devices {name}")
        taken = {
            device
            for holder in self._holders.values()
            for held in holder.containers.values()
            for allocation in held
            if allocation.resource == name
            for device in allocation.devices
        }
        available = [device for device in healthy if device not in taken]
        if len(available) < needed:
            raise AdmissionError(
                f"requested number of devices unavailable for {name}. "
                f"Requested: {needed}, Available: {len(available)}"
            )
        try:
            preferred: list[str] = []
            if resource.client.options.get_preferred_allocation_available:
                preferred = [d for d in await resource.client.preferred(available, needed) if d in available]
            chosen = [*preferred, *(d for d in available if d not in preferred)][:needed]
            answer = await resource.client.allocate(chosen)
        except GRPCError as error:
            code = "".join(word.title() for word in error.status.name.split("_"))
            raise AdmissionError(f"rpc error: code = {code} desc = {error.message or ''}") from error
        except (OSError, ProtocolError, StreamTerminatedError) as error:
            raise AdmissionError(f"rpc error: code = Unavailable desc = {error}") from error
        return Allocation(name, tuple(chosen), dict(answer.envs), tuple(d.host_path for d in answer.devices))

    def _update(self, resource: _Resource, client: PluginClient, devices: Mapping[str, bool]) -> None:
        if resource.client is client and dict(devices) != resource.devices:
            resource.devices = dict(devices)
            self._changed()

    def _gone(self, name: str, resource: _Resource, client: PluginClient) -> None:
        if resource.client is not client:
            return
        resource.client = None
        resource.devices = dict.fromkeys(resource.devices, False)
        self._await_expiry(name, resource)
        self._changed()

    def _await_expiry(self, name: str, resource: _Resource) -> None:
        resource.expiry = asyncio.get_running_loop().call_later(self._grace, self._expire, name, resource)

    def _expire(self, name: str, resource: _Resource) -> None:
        if self._resources.get(name) is resource and resource.client is None:
            del self._resources[name]
            self._removed.add(name)
            self._changed()
