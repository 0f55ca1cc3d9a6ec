"""The cluster's side of the loop: API server and kubelet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.report import MdevReport
from vfio_ap_agent.apply import Applier
from vfio_ap_agent.cluster.announce import Said
from vfio_ap_agent.cluster.publish import APNODES, Publisher
from vfio_ap_agent.desired import Desired
from vfio_ap_agent.plugin import Grant, PluginSet
from vfio_ap_api import apnode
from vfio_ap_kube.client import ApiError, Client
from vfio_ap_kube.events import EventPoster

_LOG = logging.getLogger(__name__)
_RESOURCE = "ap.s390x.io/"
_KUBELET_RETRY = 5.0
_MOST_SAYINGS = 200
_OBJECT: dict[str, Any] = {"apiVersion": apnode.KIND.api_version, "kind": apnode.KIND.name}


class ClusterOutlet:
    """Implements ``Outlet`` for one node. Whatever fails here is logged and comes again with the next pass."""

    def __init__(self, client: Client, name: str, publisher: Publisher, kubelet_dir: Path | None) -> None:
        self._client = client
        self._name = name
        self._publisher = publisher
        self._events = EventPoster(client, "vfio-ap-agent", name)
        self._sayings: asyncio.Queue[Said] = asyncio.Queue()
        self._uid = ""
        self._granted: dict[str, Grant] = {}
        self._wish: Desired | None = None
        self._applier: Applier | None = None
        self.changed = asyncio.Event()
        self._plugin: PluginSet | None = None
        if kubelet_dir is not None:
            self._plugin = PluginSet(kubelet_dir, self._prove, on_change=lambda _: self.changed.set())

    def know(self, uid: str) -> None:
        """Take in the UID of the APNode, which Events refer to."""
        self._uid = uid

    def prove_by(self, applier: Applier) -> None:
        """Take in who can look at a device once more before a pod gets it."""
        self._applier = applier

    # -- API server

    def publish(self, document: dict[str, Any]) -> None:
        """Publish a status, if it is new."""
        self._publisher.offer(document)

    def say(self, said: list[Said]) -> None:
        """Log this, and post it on the APNode some time; the oldest is dropped when too much is waiting."""
        for item in said:
            _LOG.info("%s: %s", item.reason, item.message)
            while self._sayings.qsize() >= _MOST_SAYINGS:
                self._sayings.get_nowait()
            self._sayings.put_nowait(item)

    async def post_events(self) -> None:
        """Post what was said until cancelled; a pass never waits for the API server because of it."""
        while True:
            item = await self._sayings.get()
            about = {**_OBJECT, "metadata": {"name": self._name, "uid": self._uid}}
            if self._uid:
                await self._events.post(about, item.kind, item.reason, item.message)

    async def create_node(self) -> None:
        """Create the APNode; its spec is the operator's."""
        document = {**_OBJECT, "metadata": {"name": self._name}, "spec": {}}
        try:
            await self._client.create(APNODES, document)
        except ApiError as error:
            if not error.conflict:
                _LOG.warning("cannot create the APNode: %s", error)

    # -- kubelet

    async def grant(self, granted: Mapping[str, str], reports: tuple[MdevReport, ...]) -> set[str]:
        """Offer what is granted and Ready; what was offered and is no longer Ready stays, as unhealthy."""
        if self._plugin is None:
            return set()
        by_uuid = {report.uuid: report for report in reports}
        grants: dict[str, Grant] = {}
        for uuid, name in granted.items():
            report = by_uuid.get(uuid)
            if report is None or not report.group or (report.state != "Ready" and uuid not in self._granted):
                continue
            try:
                grants[uuid] = Grant(_RESOURCE + name, uuid, report.group, report.state == "Ready")
            except ValueError as error:
                _LOG.warning("not offered: %s", error)
        # One device per resource: a second one of the same matrix is an error of whoever wrote the spec.
        unique = {grant.resource: grant for grant in reversed(grants.values())}
        await self._offer(list(unique.values()))
        return {g.uuid for g in unique.values() if g.healthy and self._plugin.registered(g.resource)}

    async def doubt(self) -> None:
        """Call everything that is offered unhealthy: the host could not be read."""
        await self._offer([replace(grant, healthy=False) for grant in self._granted.values()])

    async def _offer(self, grants: list[Grant]) -> None:
        if self._plugin is None:
            return
        self._granted = {grant.uuid: grant for grant in grants}
        try:
            await self._plugin.set(grants)
        except OSError as error:
            _LOG.warning("not all resources are offered to the kubelet: %s", error)

    def wish(self, desired: Desired | None) -> None:
        """Take in the newest wish, against which an allocation is checked."""
        self._wish = desired

    async def _prove(self, grant: Grant) -> Grant | Refusal:
        """Look at the host once more before a pod gets a device."""
        if self._applier is None or self._wish is None:
            return Refusal("NoSpec", grant.uuid, "nobody has written spec.mdevs yet")
        if grant.uuid not in self._wish.granted:
            return Refusal("NotGranted", grant.uuid, "is not granted to this node any more")
        try:
            outcome = await self._applier.inspect(self._wish.wish)
        except RefusedError as error:
            return error.refusal
        except (TimeoutError, OSError) as error:
            return Refusal("HostUnreachable", grant.uuid, str(error) or "the host does not answer", "try again")
        report = next((r for r in outcome.reports if r.uuid == grant.uuid), None)
        if report is None or report.state != "Ready":
            note = report.note if report else None
            return note or Refusal("NotReady", grant.uuid, "does not hold its matrix")
        if report.in_use:
            return Refusal(
                "InUse", grant.uuid, "is in use by a guest already", "wait until that guest has stopped"
            )
        return Grant(grant.resource, grant.uuid, report.group, healthy=True)

    async def serve_kubelet(self) -> None:
        """Follow the kubelet for ever, through times in which its directory is not there."""
        while self._plugin is not None:
            try:
                await self._plugin.run()
            except OSError as error:
                _LOG.warning("the kubelet's directory cannot be watched: %s", error)
            await asyncio.sleep(_KUBELET_RETRY)

    async def close(self) -> None:
        """Withdraw from the kubelet; devices stay."""
        if self._plugin is not None:
            await self._plugin.close()
