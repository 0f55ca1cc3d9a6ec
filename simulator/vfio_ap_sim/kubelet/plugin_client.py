"""One device plugin, as the kubelet that it registered with sees it.

Dials the plugin's socket, follows its list of devices and passes calls on. Who gets which device is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from vfio_ap_kube.kubelet import HEALTHY
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import DevicePluginStub

log = logging.getLogger(__name__)


class PluginClient:
    """Follows one plugin from ``connect`` until it ends or ``close`` is called.

    ``update`` is called with each list (device ID to whether it is healthy), ``gone`` once after the last.
    """

    def __init__(self, path: Path, update: Callable[[Mapping[str, bool]], None], gone: Callable[[], None]) -> None:
        self._channel = Channel(path=str(path))
        self._stub = DevicePluginStub(self._channel)
        self._update = update
        self._gone = gone
        self._follower: asyncio.Task[None] | None = None
        self.options = pb.DevicePluginOptions()

    async def connect(self) -> None:
        """Dial the plugin and start to follow it.

        Raises:
            OSError, GRPCError: it does not answer.
        """
        self.options = await self._stub.GetDevicePluginOptions(pb.Empty())
        self._follower = asyncio.create_task(self._follow())

    async def allocate(self, ids: list[str]) -> pb.ContainerAllocateResponse:
        """Ask for these devices for one container.

        Raises:
            GRPCError, OSError: the plugin refuses, or does not answer.
        """
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        answer = await self._stub.Allocate(request)
        return answer.container_responses[0]

    async def preferred(self, available: list[str], size: int) -> list[str]:
        """Ask which of the available devices it would rather give."""
        request = pb.PreferredAllocationRequest(
            container_requests=[
                pb.ContainerPreferredAllocationRequest(available_deviceIDs=available, allocation_size=size)
            ]
        )
        answer = await self._stub.GetPreferredAllocation(request)
        return list(answer.container_responses[0].deviceIDs) if answer.container_responses else []

    async def close(self) -> None:
        """Hang up; ``gone`` is not called any more."""
        self._gone = lambda: None
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
        self._channel.close()

    async def _follow(self) -> None:
        try:
            async with self._stub.ListAndWatch.open() as stream:
                await stream.send_message(pb.Empty(), end=True)
                async for answer in stream:
                    self._update({device.ID: device.health == HEALTHY for device in answer.devices})
        except (GRPCError, OSError, ProtocolError, StreamTerminatedError) as error:
            log.info("A device plugin's stream ended: %s", error)
        finally:
            self._channel.close()
            self._gone()
