"""One resource's socket and its registration with the kubelet.

Serves first and registers then, for the kubelet dials back before it answers. The kubelet may go and come at any
time: it deletes every socket in its directory when it starts, and after a lost watch it never dials again. What is
offered and when the kubelet's socket appears is told from outside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from vfio_ap_agent.plugin.grants import Grant, socket_name
from vfio_ap_agent.plugin.service import MatrixService
from vfio_ap_kube.kubelet import API_VERSION, KUBELET_SOCKET
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet.deviceplugin_v1beta1_grpc import RegistrationStub
from vfio_ap_kube.kubelet.sockets import UnixServer, unix_channel

if TYPE_CHECKING:
    from vfio_ap_agent.plugin.service import Check

REGISTER_DEADLINE: Final = 10.0
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 30.0
WATCH_GRACE: Final = 2.0
"""Seconds without a watch after which the kubelet is taken to have dropped us."""
RETIRE_GRACE: Final = 2.0
"""Seconds that watchers get to take the final, empty list."""

log = logging.getLogger(__name__)


class Endpoint:
    """Keeps one grant served and registered from ``open`` to ``retire``."""

    def __init__(self, directory: Path, grant: Grant, check: Check, on_change: Callable[[str], None]) -> None:
        self.registered = False
        """Whether the kubelet that is there now has accepted the registration."""
        self._resource = grant.resource
        self._kubelet = directory / KUBELET_SOCKET
        self._service = MatrixService(grant, check, self._service_changed)
        self._server = UnixServer(directory / socket_name(grant.resource), [self._service])
        self._on_change = on_change
        self._wanted = asyncio.Event()
        self._unwatched = asyncio.Event()
        self._loss: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._trying = False
        self._complaint = ""
        self._health = grant.healthy

    async def open(self) -> None:
        """Serve, and start to register.

        Raises:
            OSError: the socket cannot be made.
        """
        await self._server.start()
        self._wanted.set()
        self._keeper = asyncio.create_task(self._keep_registered(), name=f"register {self._resource}")

    def offer(self, grant: Grant) -> None:
        """Offer this from now on."""
        self._health = grant.healthy
        self._service.offer(grant)

    def try_now(self) -> None:
        """Register without further delay, unless that is done or under way."""
        if not (self.registered or self._trying):
            self._wanted.set()

    def kubelet_appeared(self) -> None:
        """Register anew: a kubelet's socket was made."""
        self._set_registered(False)
        self._wanted.set()

    def kubelet_vanished(self) -> None:
        """Know that nobody is registered with: the kubelet's socket was removed."""
        self._set_registered(False)

    async def retire(self) -> None:
        """Send watchers the empty list, then end."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        self._forget_loss()
        self._service.offer(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_GRACE):
                while self._service.watchers:
                    self._unwatched.clear()
                    await self._unwatched.wait()
        await self._server.close()
        self._set_registered(False)

    async def _keep_registered(self) -> None:
        delay = FIRST_DELAY
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._trying = True
            try:
                await self._register()
            except FileNotFoundError:
                self._complain("the kubelet is away")
            except TimeoutError:
                self._complain(f"the kubelet did not answer within {REGISTER_DEADLINE:g} s")
            except GRPCError as error:
                self._complain(f"the kubelet refused: {error.message or error.status.name}")
            except (OSError, ProtocolError, StreamTerminatedError) as error:
                self._complain(f"the kubelet cannot be reached: {error}")
            finally:
                self._trying = False
            if self.registered:
                delay = FIRST_DELAY
            elif self._kubelet.exists():
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wanted.wait()
                self._wanted.set()
                delay = min(2 * delay, LONGEST_DELAY)

    async def _register(self) -> None:
        if not self._server.reachable:
            await self._server.close()
            await self._server.start()
        request = pb.RegisterRequest(
            version=API_VERSION,
            endpoint=self._server.path.name,
            resource_name=self._resource,
            options=pb.DevicePluginOptions(get_preferred_allocation_available=True),
        )
        async with asyncio.timeout(REGISTER_DEADLINE), unix_channel(self._kubelet) as channel:
            await RegistrationStub(channel).Register(request)
        self._complaint = ""
        self._set_registered(True)
        self._expect_watch()

    def _service_changed(self) -> None:
        if self._service.watchers:
            self._forget_loss()
        else:
            self._unwatched.set()
            if self.registered:
                self._expect_watch()
        grant = self._service.grant
        if grant is not None and grant.healthy != self._health:
            self._health = grant.healthy
            self._on_change(self._resource)

    def _expect_watch(self) -> None:
        self._forget_loss()
        if not self._service.watchers:
            self._loss = asyncio.get_running_loop().call_later(WATCH_GRACE, self.kubelet_appeared)

    def _forget_loss(self) -> None:
        if self._loss is not None:
            self._loss.cancel()
            self._loss = None

    def _set_registered(self, registered: bool) -> None:
        if not registered:
            self._forget_loss()
        if registered != self.registered:
            self.registered = registered
            log.info("%s is %s the kubelet", self._resource, "registered with" if registered else "unknown to")
            self._on_change(self._resource)

    def _complain(self, complaint: str) -> None:
        """Say why registration failed, once per reason."""
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning("%s is not registered: %s", self._resource, complaint)
