"""Carries out what the gate's plan says of pods: lifts gates and holds, and tells those who wait why.

Decides nothing. A pod that is gone or was changed meanwhile is no error: the watch says so and the plan is made
anew.
"""

from __future__ import annotations

import logging

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import Cancel, GatePlan, Lift, Release
from vfio_ap.fleet.launchers import HOSTNAME, PodView
from vfio_ap_kube.client import PODS, ApiError, Client, Document
from vfio_ap_kube.events import EventPoster, about
from vfio_ap_kube.snapshot.names import HOLD
from vfio_ap_operator import pods
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.requests import MIGRATIONS

_LOG = logging.getLogger(__name__)


class Gatekeeper:
    """Acts on pods; one per operator."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events

    async def act(self, matrix: str) -> None:
        """Do what the plan of a matrix says. Raises ApiError."""
        plan = self._fleet.work.gates.get(matrix, GatePlan())
        for action in plan.actions:
            try:
                match action:
                    case Lift(pod, pin):
                        await self._lift(pod, pin)
                    case Release(pod):
                        await self._release(pod)
                    case Cancel(pod, refusal):
                        await self._cancel(pod, refusal)
            except ApiError as error:
                if not (error.not_found or error.conflict):
                    raise
                _LOG.info("pod %s changed before it could be let go: %s", action.pod, error)
        for wait in plan.waits:
            await self._events.post(
                _about(wait.pod),
                "Warning" if wait.overdue else "Normal",
                wait.refusal.reason,
                f"matrix {matrix}: {wait.refusal}",
            )

    async def _lift(self, pod: PodView, pin: str) -> None:
        resource = PODS.within(pod.namespace)
        hostname = self._fleet.views[pin].labels.get(HOSTNAME, pin) if pin else ""
        patch = pods.lift_patch(await self._client.get(resource, pod.name), hostname, note=not pod.target)
        if patch:
            self._fleet.work.observe_pod(await self._client.json_patch(resource, pod.name, patch))
            where = f", pinned to node {pin}" if pin else ""
            await self._events.post(_about(pod), "Normal", "GateLifted", f"matrix {pod.matrix} is prepared{where}")

    async def _release(self, pod: PodView) -> None:
        body = {"metadata": {"uid": pod.uid, "annotations": {HOLD: "lifted"}}}
        answer = await self._client.merge(PODS.within(pod.namespace), pod.name, body)
        self._fleet.work.observe_pod(answer)
        await self._events.post(_about(pod), "Normal", "HoldLifted", f"matrix {pod.matrix} is ready on {pod.node}")

    async def _cancel(self, pod: PodView, refusal: Refusal) -> None:
        """Delete the migration that a target pod is for: KubeVirt then removes the pod, the VM stays."""
        migration = self._fleet.work.migrations.get(pod.migration)
        if migration is None or migration.handed_over:
            return
        await self._client.delete(MIGRATIONS.within(migration.namespace), migration.name)
        await self._events.post(_about(pod), "Warning", refusal.reason, str(refusal))


def _about(pod: PodView) -> Document:
    return about("v1", "Pod", pod.name, pod.uid, pod.namespace)
