"""virt-handler's device plugins for what every guest needs: kvm, tun and vhost-net, a thousand of each.

After pkg/virt-handler/device-manager/generic_device.go of v1.8.4. The device files are named, not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vfio_ap_kube.kubelet import API_VERSION, HEALTHY, KUBELET_SOCKET
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import DevicePluginBase, RegistrationStub
from vfio_ap_kube.kubelet.sockets import UnixServer, unix_channel

if TYPE_CHECKING:
    from grpclib.server import Stream

NAMESPACE: Final = "devices.kubevirt.io"
DEVICES: Final[Mapping[str, str]] = {"kvm": "/dev/kvm", "tun": "/dev/net/tun", "vhost-net": "/dev/vhost-net"}
COUNT: Final = 1000
"""--max-devices (cmd/virt-handler)."""


class NodeDevices:
    """The three plugins of a node."""

    def __init__(self, directory: Path) -> None:
        """Prepare; ``directory`` is where the node's kubelet looks for plugins."""
        self._directory = directory
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Serve and register. Raises OSError and GRPCError."""
        for name, path in DEVICES.items():
            server = UnixServer(self._directory / f"kubevirt-{name}.sock", [_Plugin(name, path)])
            await server.start()
            self._stack.push_async_callback(server.close)
            async with unix_channel(self._directory / KUBELET_SOCKET) as channel:
                request = pb.RegisterRequest(
                    version=API_VERSION, endpoint=server.path.name, resource_name=f"{NAMESPACE}/{name}"
                )
                await RegistrationStub(channel).Register(request)

    async def stop(self) -> None:
        """End the plugins; the kubelet counts their devices as unhealthy from then on."""
        await self._stack.aclose()


class _Plugin(DevicePluginBase):
    def __init__(self, name: str, path: str) -> None:
        self._devices = [pb.Device(ID=f"{name}{number}", health=HEALTHY) for number in range(COUNT)]
        self._spec = pb.DeviceSpec(host_path=path, container_path=path, permissions="mrw")

    async def GetDevicePluginOptions(self, stream: Stream[pb.Empty, pb.DevicePluginOptions]) -> None:
        await stream.recv_message()
        await stream.send_message(pb.DevicePluginOptions())

    async def ListAndWatch(self, stream: Stream[pb.Empty, pb.ListAndWatchResponse]) -> None:
        await stream.recv_message()
        await stream.send_message(pb.ListAndWatchResponse(devices=self._devices))
        await asyncio.Event().wait()  # nothing ever changes; the server's end cancels it

    async def GetPreferredAllocation(
        self, stream: Stream[pb.PreferredAllocationRequest, pb.PreferredAllocationResponse]
    ) -> None:
        await stream.recv_message()
        await stream.send_message(pb.PreferredAllocationResponse())

    async def Allocate(self, stream: Stream[pb.AllocateRequest, pb.AllocateResponse]) -> None:
        request = await stream.recv_message()
        assert request is not None
        answers = [pb.ContainerAllocateResponse(devices=[self._spec]) for _ in request.container_requests]
        await stream.send_message(pb.AllocateResponse(container_responses=answers))

    async def PreStartContainer(
        self, stream: Stream[pb.PreStartContainerRequest, pb.PreStartContainerResponse]
    ) -> None:
        await stream.recv_message()
        await stream.send_message(pb.PreStartContainerResponse())
