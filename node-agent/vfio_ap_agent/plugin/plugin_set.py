"""All resources of this node together, and the watch for the kubelet that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vfio_ap_agent.plugin.endpoint import Endpoint
from vfio_ap_agent.plugin.grants import SOCKET_GLOB, Grant
from vfio_ap_agent.plugin.inotify import DirectoryEvents
from vfio_ap_kube.kubelet import KUBELET_SOCKET

if TYPE_CHECKING:
    from vfio_ap_agent.plugin.service import Check


def _ignore(_: str) -> None:
    return None


class PluginSet:
    """Advertises a set of grants to the kubelet whose directory this is.

    ``set`` may be called at any time and as often as one likes. ``run`` must be running for registrations to
    follow a kubelet that goes and comes.
    """

    def __init__(self, kubelet_dir: Path, check: Check, *, on_change: Callable[[str], None] = _ignore) -> None:
        """Prepare; nothing is opened yet.

        Args:
            kubelet_dir: the kubelet's ``device-plugins`` directory; at most 82 bytes long. check: looks at the
            matrix once more before a pod gets it. It returns the grant as it is now, or why not. on_change: called
            with a resource when ``registered`` changed, and when a failed check made the device
                unhealthy; it stays so until the next ``set``.
        """
        self._directory = kubelet_dir
        self._check = check
        self._on_change = on_change
        self._endpoints: dict[str, Endpoint] = {}
        self._lock = asyncio.Lock()
        self._cleared = False

    def registered(self, resource: str) -> bool:
        """Return whether the kubelet that is there now accepted this resource."""
        endpoint = self._endpoints.get(resource)
        return endpoint is not None and endpoint.registered

    async def set(self, grants: Collection[Grant]) -> None:
        """Advertise these and nothing else.

        A resource that is no longer there tells the kubelet so (an empty list) before its socket closes.

        Raises:
            ValueError: a resource is named twice.
            OSError: the socket of a new resource cannot be made; all others are as asked.
        """
        wanted = {grant.resource: grant for grant in grants}
        if len(wanted) != len(grants):
            raise ValueError("a resource is granted twice")
        async with self._lock:
            self._clear_leftovers()
            gone = [self._endpoints.pop(name) for name in [*self._endpoints] if name not in wanted]
            await asyncio.gather(*(endpoint.retire() for endpoint in gone))
            failures: list[OSError] = []
            for name, grant in wanted.items():
                if name in self._endpoints:
                    self._endpoints[name].offer(grant)
                    continue
                endpoint = Endpoint(self._directory, grant, self._check, self._on_change)
                try:
                    await endpoint.open()
                except OSError as error:
                    failures.append(error)
                else:
                    self._endpoints[name] = endpoint
        if failures:
            raise failures[0]

    async def run(self) -> None:
        """Follow the kubelet until cancelled.

        Raises:
            OSError: the kubelet's directory is not there, or went away.
        """
        with DirectoryEvents(self._directory) as events:
            for endpoint in self._endpoints.values():
                endpoint.try_now()
            async for event in events:
                if event.kind == "missed" or (event.kind == "appeared" and event.name == KUBELET_SOCKET):
                    for endpoint in self._endpoints.values():
                        endpoint.kubelet_appeared()
                elif event.name == KUBELET_SOCKET:
                    for endpoint in self._endpoints.values():
                        endpoint.kubelet_vanished()

    async def close(self) -> None:
        """Withdraw everything, as ``set([])`` does."""
        await self.set([])

    def _clear_leftovers(self) -> None:
        """Remove, once, the sockets of an earlier process of ours."""
        if self._cleared:
            return
        for leftover in self._directory.glob(SOCKET_GLOB):
            leftover.unlink(missing_ok=True)
        self._cleared = True
