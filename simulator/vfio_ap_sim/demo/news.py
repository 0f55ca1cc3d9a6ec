"""Tells what happens to the VMs while it happens: the operator's Events and the phases of KubeVirt's migrations.

It decides nothing; whoever waits for an Event here goes on after it was shown.
"""

from __future__ import annotations

import asyncio
from typing import Self

from vfio_ap_kube.client import EVENTS, Document
from vfio_ap_kube.watch import follow
from vfio_ap_sim.cluster import SimCluster, TookTooLongError
from vfio_ap_sim.demo.guests import NAMESPACE
from vfio_ap_sim.demo.stage import Stage
from vfio_ap_sim.kubevirt.api import VMIMS

_KUBEVIRTS = ("Started", "Migrating", "Migrated")
"""What of KubeVirt's own Events is worth a line."""
_SMALL = ("Requested", "NotAllocatable", "Applying", "Leaving", "MoveWaiting", "MovePreparing", "Freezing")
"""What of ours is not: small steps on the way, each for a fraction of a second."""
_PHASES = ("Scheduling", "Running", "Succeeded", "Failed")
_KINDS = {"VirtualMachineInstance": "VM", "Pod": "pod"}


class News:
    """Prints from ``async with`` on, until its end."""

    def __init__(self, cluster: SimCluster, stage: Stage) -> None:
        self._cluster = cluster
        self._stage = stage
        self._last: dict[str, str] = {}
        """Reason or phase by object: what only goes on is told once."""
        self._messages: dict[tuple[str, str], str] = {}
        self._more = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._events()), asyncio.create_task(self._migrations())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def told(self, name: str, reason: str, limit: float = 60) -> str:
        """Return the message of the first Event with a reason on an object, once it was shown.

        Raises TookTooLongError after ``limit`` seconds.
        """
        try:
            async with asyncio.timeout(limit), self._more:
                await self._more.wait_for(lambda: (name, reason) in self._messages)
        except TimeoutError:
            raise TookTooLongError(f"no Event {reason} on {name} within {limit:g} s") from None
        return self._messages[name, reason]

    async def _events(self) -> None:
        async for change in follow(self._cluster.client, EVENTS.within(NAMESPACE)):
            if not (change.synced or change.deleted):
                self._show(change.object)
                async with self._more:
                    self._more.notify_all()

    def _show(self, event: Document) -> None:
        about, reason = event["involvedObject"], event["reason"]
        ours = event.get("reportingComponent", "").startswith("vfio-ap")
        # What is said of an APMigration is said of its VM as well.
        if about["kind"] == "APMigration" or reason in (_SMALL if ours else ()):
            return
        if not (ours or reason in _KUBEVIRTS) or self._last.get(about["name"]) == reason:
            return
        self._last[about["name"]] = reason
        self._messages.setdefault((about["name"], reason), event["message"])
        kind = _KINDS.get(about["kind"], about["kind"])
        self._stage.say(f"  | {kind} {about['name']}: {reason}: {event['message']}", hanging=6)

    async def _migrations(self) -> None:
        async for change in follow(self._cluster.client, VMIMS.within(NAMESPACE)):
            if change.synced or change.deleted:
                continue
            name, phase = change.object["metadata"]["name"], change.object.get("status", {}).get("phase", "")
            if phase in _PHASES and self._last.get(name) != phase:
                self._last[name] = phase
                self._stage.say(f"  | migration {name}: {phase}")
