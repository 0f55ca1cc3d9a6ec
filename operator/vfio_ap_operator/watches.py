"""The watches on foreign kinds and on APNodes.

kopf serves the operator's own kind; these follow the rest with a client of their own, because kopf reports no
deletion that happened while its watch was down, and a node that is gone must not be planned for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from vfio_ap_kube.client import NAMESPACES, NODES, PODS, ApiError, Client, Document, Resource
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.preconditions.kubevirt import DEFINITION
from vfio_ap_kube.snapshot.names import MATRIX
from vfio_ap_kube.watch import follow
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.guard import GuardKeeper
from vfio_ap_operator.heartbeats import Heartbeats
from vfio_ap_operator.reconcile import APNODES, MATRICES, POLICIES
from vfio_ap_operator.requests import MIGRATIONS, MOVES, VMIS
from vfio_ap_operator.restarts import Restarts

_LOG = logging.getLogger(__name__)
_OPTIONAL = 10.0
"""Seconds between looks for KubeVirt where it is not installed."""
KUBEVIRTS = Resource("kubevirt.io/v1", "kubevirts")
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
_FIRST = (NODES, APNODES, NAMESPACES, PODS, KUBEVIRTS, DEFINITIONS, POLICIES, MOVES)
"""What must have been listed whole before anything is decided."""
VMS = Resource("kubevirt.io/v1", "virtualmachines")


class Watches:
    """Feeds a Fleet."""

    def __init__(
        self,
        fleet: Fleet,
        client: Client,
        events: EventPoster,
        guards: GuardKeeper,
        namespace: str,
        silence: float,
    ) -> None:
        self._fleet = fleet
        self._client = client
        self._restarts = Restarts(fleet.work, events)
        self._guards = guards
        self._heartbeats = Heartbeats(fleet, client, events, namespace, silence)
        self._synced = {resource: asyncio.Event() for resource in _FIRST}
        self._kubevirts: dict[str, Document] = {}

    async def run(self) -> None:
        """Follow everything until cancelled."""
        fleet = self._fleet
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(NODES, fleet.observe_node, fleet.forget_node))
            group.create_task(self._follow(APNODES, fleet.observe_apnode, fleet.forget_apnode))
            group.create_task(self._follow(NAMESPACES, fleet.observe_namespace, fleet.forget_namespace))
            group.create_task(self._follow_pods())
            group.create_task(self._follow_kubevirt())
            group.create_task(self._follow_definition())
            group.create_task(self._follow_vms())
            group.create_task(self._follow_templates())
            group.create_task(self._follow_migrations())
            group.create_task(self._follow(POLICIES, fleet.observe_policy, fleet.forget_policy))
            group.create_task(self._follow_moves())
            group.create_task(self._guards.run())
            group.create_task(self._heartbeats.run())

    async def complete(self) -> None:
        """Return once all was listed whole and the policies were looked at: nothing is decided before."""
        for event in self._synced.values():
            await event.wait()
        await self._guards.proven.wait()

    async def _follow(
        self, resource: Resource, observe: Callable[[dict[str, Any]], None], forget: Callable[[str], None]
    ) -> None:
        async for change in follow(self._client, resource):
            if change.synced:
                self._synced[resource].set()
            elif change.deleted:
                forget(change.object["metadata"]["name"])
            else:
                observe(change.object)

    async def _follow_pods(self) -> None:
        """Follow the pods that ask for a matrix: the server selects them by the label that admission writes."""
        async for change in follow(self._client, PODS, labelSelector=MATRIX):
            if change.synced:
                self._synced[PODS].set()
            elif change.deleted:
                self._fleet.work.forget_pod(change.object)
            else:
                self._fleet.work.observe_pod(change.object)

    async def _follow_kubevirt(self) -> None:
        """Follow KubeVirt's configuration where KubeVirt is installed, and look for it now and then where not."""
        if not await self._served(KUBEVIRTS):
            self._synced[KUBEVIRTS].set()
            await self._until_served(KUBEVIRTS)
        async for change in follow(self._client, KUBEVIRTS):
            if not change.synced:
                uid = change.object["metadata"]["uid"]
                self._kubevirts.pop(uid, None)
                if not change.deleted:
                    self._kubevirts[uid] = change.object
            if change.synced or self._synced[KUBEVIRTS].is_set():
                await self._guards.configured(self._kubevirts.values())
                self._synced[KUBEVIRTS].set()

    async def _follow_definition(self) -> None:
        """Follow what KubeVirt's VMs can ask for: an upgrade of KubeVirt changes it."""
        found: Document | None = None
        async for change in follow(self._client, DEFINITIONS, fieldSelector=f"metadata.name={DEFINITION}"):
            if not change.synced:
                found = None if change.deleted else change.object
            if change.synced or self._synced[DEFINITIONS].is_set():
                await self._guards.defined(found)
                self._synced[DEFINITIONS].set()

    async def _follow_vms(self) -> None:
        """Follow the VMIs with a matrix, by the label that admission writes, where KubeVirt is installed."""
        await self._until_served(VMIS)
        async for change in follow(self._client, VMIS, labelSelector=MATRIX):
            if change.deleted:
                self._fleet.work.forget_vm(change.object)
            elif change.synced:
                self._fleet.work.complete = True
                self._fleet.wake.set()
            else:
                self._fleet.work.observe_vm(change.object)

    async def _follow_templates(self) -> None:
        """Follow every VirtualMachine: which of them has a matrix, only its template says."""
        await self._until_served(VMS)
        async for change in follow(self._client, VMS):
            if change.deleted:
                self._restarts.forget(change.object)
            elif not change.synced:
                self._restarts.observe(change.object)

    async def _follow_migrations(self) -> None:
        """Follow KubeVirt's migrations: whoever asks for one, it is followed to its end."""
        await self._until_served(MIGRATIONS)
        async for change in follow(self._client, MIGRATIONS):
            if change.deleted:
                self._fleet.work.forget_migration(change.object)
            elif not change.synced:
                self._fleet.work.observe_migration(change.object)

    async def _follow_moves(self) -> None:
        async for change in follow(self._client, MOVES):
            if change.synced:
                self._synced[MOVES].set()
            elif change.deleted:
                self._fleet.work.forget_move(change.object)
            else:
                self._fleet.work.observe_move(change.object)

    async def _until_served(self, resource: Resource) -> None:
        """Return once the API server knows the resource."""
        while not await self._served(resource):  # noqa: ASYNC110 - the API server is asked, nobody tells
            await asyncio.sleep(_OPTIONAL)

    async def _served(self, resource: Resource) -> bool:
        """Tell whether the API server knows the resource; no answer counts as yes, so that it is waited for."""
        try:
            await self._client.listing(resource, limit="1")
        except ApiError as error:
            return not error.not_found
        return True


async def resync_matrices(fleet: Fleet, client: Client) -> None:
    """List the APMatrix objects: take in each, forget those that are gone. Raises ApiError."""
    listing = await client.listing(MATRICES)
    items = listing.get("items") or []
    for item in items:
        fleet.observe_matrix(item)
    names = {item["metadata"]["name"] for item in items}
    for name in [name for name in fleet.matrices if name not in names]:
        fleet.forget_matrix(name)
