"""What virt-handler does for its node as such: labels, heartbeats, and the sweep of mdevs that are not its own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from vfio_ap.host.ops import HostOps
from vfio_ap_kube.client import NODES, ApiError, Client
from vfio_ap_sim.kubevirt import heartbeat
from vfio_ap_sim.kubevirt.api import Document
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.sweep import sweep
from vfio_ap_sim.kubevirt.vmistatus import now

log = logging.getLogger(__name__)


class Upkeep:
    """One node's."""

    def __init__(self, node: str, host: HostOps, knobs: Knobs) -> None:
        self._node = node
        self._host = host
        self._knobs = knobs
        self._kubevirt: Document | None = None
        self._configured = asyncio.Event()
        self._swept = 0
        """Generation of the KubeVirt object by which mdevs were swept last."""
        self._news = asyncio.Condition()

    async def label(self, client: Client) -> None:
        """Write the node labeller's labels. Raises ApiError."""
        await client.merge(NODES, self._node, {"metadata": {"labels": heartbeat.labels()}})

    async def keep_beating(self, client: Client) -> None:
        """Say that guests may come, for ever."""
        while True:
            await self.beat(client, schedulable=True)
            await asyncio.sleep(self._knobs.heartbeat)

    async def beat(self, client: Client, *, schedulable: bool) -> None:
        """Say once whether guests may come; that it cannot be said is logged."""
        try:
            await client.merge(NODES, self._node, heartbeat.beat(now(), schedulable=schedulable))
        except ApiError as error:
            log.warning("No heartbeat for node %s: %s", self._node, error)

    def see_kubevirt(self, kubevirt: Document, deleted: bool) -> None:
        """Take the KubeVirt object's newest state."""
        self._kubevirt = None if deleted else kubevirt
        self._configured.set()

    async def keep_sweeping(self) -> None:
        """Remove mdevs that are not KubeVirt's, at each heartbeat and whenever KubeVirt is configured anew."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._knobs.heartbeat):
                    await self._configured.wait()
            self._configured.clear()
            if (kubevirt := self._kubevirt) is None:
                continue
            await sweep(self._host, kubevirt)
            async with self._news:
                self._swept = kubevirt["metadata"]["generation"]
                self._news.notify_all()

    async def swept(self, generation: int) -> None:
        """Return once mdevs were swept by this generation of the KubeVirt object, or a newer one."""
        async with self._news:
            await self._news.wait_for(lambda: self._swept >= generation)
