"""Which agents live: their Leases are listed now and then, and silence is told on the APNode.

Clocks differ, so a stamp counts by how long it stands still by ours; one that is seen for the first time is as old
as the API server says. Decides nothing.
"""

from __future__ import annotations

import asyncio
import logging

from vfio_ap_api import apnode
from vfio_ap_kube.client import LEASES, ApiError, Client, Document
from vfio_ap_kube.clock import api_time
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.lease import last_renewed
from vfio_ap_operator.fleet import Fleet

_LOG = logging.getLogger(__name__)
_HEARTBEATS = 10.0
"""Seconds between looks at the agents' Leases: one list request, instead of a watch that each renewal wakes."""
_EAGER = 1.0
"""The same while a node with an APNode has not been heard yet, for as long as an agent takes to come up."""
_EAGER_FOR = 30.0


class Heartbeats:
    """Tells a Fleet which agents it hears."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster, namespace: str, silence: float) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events
        self._leases = LEASES.within(namespace)
        self._silence = silence
        self._stamps: dict[str, tuple[str, float]] = {}
        """By agent, its Lease's stamp, and since when it stands still by our clock."""
        self._unheard: dict[str, float] = {}
        """Since when each node with an APNode has not been heard."""
        self._silent: set[str] = set()
        """Nodes of which that was said."""

    async def run(self) -> None:
        """Listen until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._look()
            except ApiError as error:
                # Our own trouble says nothing of the agents: their silence is counted anew afterwards.
                _LOG.warning("cannot look at the agents' Leases: %s", error)
                self._stamps = {name: (stamp, loop.time()) for name, (stamp, _) in self._stamps.items()}
            else:
                await self._tell()
            hopeful = any(loop.time() - since < _EAGER_FOR for since in self._unheard.values())
            await asyncio.sleep(_EAGER if hopeful or not self._fleet.views else _HEARTBEATS)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        leases = (await self._client.listing(self._leases)).get("items") or []
        first = [lease for lease in leases if lease["metadata"]["name"] not in self._stamps]
        ages = await self._ages(first) if first else {}
        for lease in leases:
            name, stamp = lease["metadata"]["name"], str((lease.get("spec") or {}).get("renewTime", ""))
            if name not in self._stamps or self._stamps[name][0] != stamp:
                self._stamps[name] = (stamp, loop.time() - ages.get(name, 0.0))
        for name in list(self._fleet.nodes):
            _, since = self._stamps.get(name, ("", float("-inf")))
            self._fleet.hear(name, loop.time() - since < self._silence)

    async def _ages(self, leases: list[Document]) -> dict[str, float]:
        """Return the seconds since each Lease was renewed: an agent that died before we began is not heard."""
        now = await api_time(self._client)
        stamps = {lease["metadata"]["name"]: last_renewed(lease) for lease in leases}
        if now is None:
            return {}
        return {name: max((now - at).total_seconds(), 0.0) for name, at in stamps.items() if at is not None}

    async def _tell(self) -> None:
        """Say of each node, once, that its agent is silent, and that it is back."""
        now = asyncio.get_running_loop().time()
        known = {name: node for name, node in self._fleet.nodes.items() if node.document is not None}
        heard = {name for name, node in known.items() if node.heard}
        before = self._unheard
        self._unheard = {name: before.get(name, now) for name in known.keys() - heard}
        for name in sorted(self._unheard):
            stamp = self._stamps.get(name)
            quiet = now - (stamp[1] if stamp is not None else self._unheard[name])
            if name not in self._silent and quiet >= self._silence:
                self._silent.add(name)
                text = f"its agent has not been heard for {quiet:.0f} s: what its status says is history"
                await self._post(name, "AgentSilent", f"{text}; see the agent's pod on the node")
        for name in sorted(self._silent & heard):
            await self._post(name, "AgentHeard", "its agent is heard again")
        self._silent &= self._unheard.keys()

    async def _post(self, name: str, reason: str, message: str) -> None:
        document = self._fleet.nodes[name].document or {}
        about = {"apiVersion": apnode.KIND.api_version, "kind": apnode.KIND.name, **document}
        await self._events.post(about, "Warning" if reason == "AgentSilent" else "Normal", reason, message)
