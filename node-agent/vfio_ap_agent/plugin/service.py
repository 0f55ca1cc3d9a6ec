"""The v1beta1 DevicePlugin service for one matrix: what it tells the kubelet and how it answers.

The kubelet's messages are input like any other: each is checked, and a bad one gets a gRPC status and changes
nothing. Sockets and registration are not its business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from vfio_ap.errors import Refusal
from vfio_ap_agent.plugin.grants import Grant, env_name
from vfio_ap_kube.kubelet import HEALTHY, UNHEALTHY
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import DevicePluginBase

if TYPE_CHECKING:
    from grpclib.server import Stream

    Check = Callable[[Grant], Awaitable[Grant | Refusal]]

CHECK_DEADLINE: Final = 10.0
"""Seconds for the check before an allocation; the kubelet sets no limit and admits no other pod meanwhile."""

log = logging.getLogger(__name__)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


async def _receive(stream: Stream[_Request, _Response]) -> _Request:
    try:
        request = await stream.recv_message()
    except DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"request cannot be decoded: {error}") from error
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "request is missing")
    return request


class MatrixService(DevicePluginBase):
    """Offers one grant as one device, until it is retired."""

    def __init__(self, grant: Grant, check: Check, changed: Callable[[], None]) -> None:
        """Offer ``grant``; ``changed`` is called when the number of watching kubelets or the health changes."""
        self.resource = grant.resource
        self.watchers = 0
        """ListAndWatch streams that are open."""
        self._grant: Grant | None = grant
        self._check = check
        self._changed = changed
        self._news = asyncio.Event()

    @property
    def grant(self) -> Grant | None:
        """What is offered at the moment, None once retired."""
        return self._grant

    def offer(self, grant: Grant | None) -> None:
        """Offer this from now on and tell every watcher; None offers nothing and ends the watches."""
        if grant != self._grant:
            self._grant = grant
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def GetDevicePluginOptions(self, stream: Stream[pb.Empty, pb.DevicePluginOptions]) -> None:
        """Ask for preferred allocations, not for PreStartContainer."""
        await _receive(stream)
        await stream.send_message(pb.DevicePluginOptions(get_preferred_allocation_available=True))

    async def ListAndWatch(self, stream: Stream[pb.Empty, pb.ListAndWatchResponse]) -> None:
        """Send the whole list now and after every change; the empty list is the last."""
        await _receive(stream)
        self.watchers += 1
        self._changed()
        try:
            while True:
                grant, news = self._grant, self._news
                await stream.send_message(pb.ListAndWatchResponse(devices=_devices(grant)))
                if grant is None:
                    return
                await news.wait()
        finally:
            self.watchers -= 1
            self._changed()

    async def GetPreferredAllocation(
        self, stream: Stream[pb.PreferredAllocationRequest, pb.PreferredAllocationResponse]
    ) -> None:
        """Prefer the only device, where it is available."""
        request = await _receive(stream)
        grant = self._offered()
        answers = []
        for wanted in request.container_requests:
            self._only(grant, wanted.must_include_deviceIDs)
            if wanted.allocation_size != 1:
                raise GRPCError(
                    Status.INVALID_ARGUMENT, f"{self.resource} has one device, not {wanted.allocation_size}"
                )
            ids = [grant.uuid] if grant.uuid in wanted.available_deviceIDs else []
            answers.append(pb.ContainerPreferredAllocationResponse(deviceIDs=ids))
        await stream.send_message(pb.PreferredAllocationResponse(container_responses=answers))

    async def Allocate(self, stream: Stream[pb.AllocateRequest, pb.AllocateResponse]) -> None:
        """Check the matrix once more and hand over its UUID and its VFIO group."""
        request = await _receive(stream)
        grant = self._offered()
        if len(request.container_requests) != 1 or len(request.container_requests[0].devices_ids) != 1:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{self.resource} has one device for one container")
        self._only(grant, request.container_requests[0].devices_ids)
        proven = await self._prove(grant)
        nodes = ("/dev/vfio/vfio", f"/dev/vfio/{proven.vfio_group}")
        answer = pb.ContainerAllocateResponse(
            envs={env_name(proven.resource): proven.uuid},
            devices=[pb.DeviceSpec(container_path=n, host_path=n, permissions="mrw") for n in nodes],
        )
        await stream.send_message(pb.AllocateResponse(container_responses=[answer]))

    async def PreStartContainer(
        self, stream: Stream[pb.PreStartContainerRequest, pb.PreStartContainerResponse]
    ) -> None:
        """Refuse: the options do not ask for it."""
        await _receive(stream)
        raise GRPCError(Status.UNIMPLEMENTED, "PreStartContainer was not asked for")

    def _offered(self) -> Grant:
        if self._grant is None:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{self.resource}: no longer granted to this node")
        return self._grant

    def _only(self, grant: Grant, ids: Iterable[str]) -> None:
        for device in ids:
            if device != grant.uuid:
                raise GRPCError(Status.INVALID_ARGUMENT, f"{self.resource} has no device {device[:63]!r}")

    async def _prove(self, grant: Grant) -> Grant:
        try:
            async with asyncio.timeout(CHECK_DEADLINE):
                proven = await self._check(grant)
        except TimeoutError as error:
            self._doubt(grant)
            raise GRPCError(
                Status.DEADLINE_EXCEEDED, f"{self.resource}: not verified within {CHECK_DEADLINE:g} s"
            ) from error
        except Exception as error:
            log.exception("The check of %s failed", self.resource)
            self._doubt(grant)
            raise GRPCError(Status.INTERNAL, f"{self.resource}: could not be verified: {error}") from error
        if (
            isinstance(proven, Grant)
            and proven.healthy
            and (proven.resource, proven.uuid) == (grant.resource, grant.uuid)
        ):
            return proven
        self._doubt(grant)
        reason = str(proven) if isinstance(proven, Refusal) else f"{self.resource}: the device is not healthy"
        raise GRPCError(Status.FAILED_PRECONDITION, reason)

    def _doubt(self, grant: Grant) -> None:
        """Keep the scheduler from sending the next pod, until the next ``offer`` says otherwise."""
        if self._grant == grant and grant.healthy:
            self.offer(replace(grant, healthy=False))
            self._changed()


def _devices(grant: Grant | None) -> list[pb.Device]:
    if grant is None:
        return []
    return [pb.Device(ID=grant.uuid, health=HEALTHY if grant.healthy else UNHEALTHY)]
