"""What the tests of the played kubelet share."""

import sys
from pathlib import Path

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import DevicePluginBase, RegistrationStub
from vfio_ap_kube.kubelet.sockets import UnixServer, unix_channel

from ..plugin.support import Bell, pod

__all__ = ["PYTHON", "Bell", "Plugin", "pod"]

PYTHON = [sys.executable, "-u", "-c"]


class Plugin(DevicePluginBase):
    """A device plugin that is not ours: it offers what the test says and answers as told."""

    def __init__(self, directory: Path, resource: str, devices: dict[str, str]) -> None:
        self.directory = directory
        self.resource = resource
        self.devices = devices
        self.refusal: GRPCError | None = None
        self.preferred: list[str] = []
        self.asked: list[list[str]] = []
        self.server = UnixServer(directory / "other.sock", [self])
        self.bell = Bell()

    async def register(self, **changes: str) -> None:
        if not self.server.reachable:
            await self.server.start()
        fields = {"version": "v1beta1", "endpoint": "other.sock", "resource_name": self.resource, **changes}
        options = pb.DevicePluginOptions(get_preferred_allocation_available=bool(self.preferred))
        async with unix_channel(self.directory / "kubelet.sock") as channel:
            await RegistrationStub(channel).Register(pb.RegisterRequest(**fields, options=options))

    async def GetDevicePluginOptions(self, stream) -> None:
        await stream.recv_message()
        await stream.send_message(pb.DevicePluginOptions(get_preferred_allocation_available=bool(self.preferred)))

    async def ListAndWatch(self, stream) -> None:
        await stream.recv_message()
        while True:
            devices = dict(self.devices)
            await stream.send_message(
                pb.ListAndWatchResponse(devices=[pb.Device(ID=i, health=h) for i, h in devices.items()])
            )
            await self.bell.until(lambda sent=devices: self.devices != sent)

    async def GetPreferredAllocation(self, stream) -> None:
        await stream.recv_message()
        answer = pb.ContainerPreferredAllocationResponse(deviceIDs=self.preferred)
        await stream.send_message(pb.PreferredAllocationResponse(container_responses=[answer]))

    async def Allocate(self, stream) -> None:
        request = await stream.recv_message()
        ids = list(request.container_requests[0].devices_ids)
        self.asked.append(ids)
        if self.refusal is not None:
            raise self.refusal
        answer = pb.ContainerAllocateResponse(envs={"IDS": ",".join(ids)})
        await stream.send_message(pb.AllocateResponse(container_responses=[answer]))

    async def PreStartContainer(self, stream) -> None:
        raise GRPCError(Status.UNIMPLEMENTED)
