"""Carries out what was decided of moves: APMigration objects and their status, KubeVirt's migrations and restarts.

Decides nothing. A move that is gone or was changed meanwhile is no error: the watch says so and the step is
planned anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.fleet import moves
from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.launchers import HOSTNAME
from vfio_ap.fleet.moves import MoveStatus, MoveView
from vfio_ap_kube.client import ApiError, Client
from vfio_ap_kube.clock import utc_now
from vfio_ap_kube.events import EventPoster
from vfio_ap_operator import requests
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.moveplanner import MovePlanner, Step

_LOG = logging.getLogger(__name__)
_PATIENCE = 10.0
"""Seconds until KubeVirt is asked again for what it refused."""
_HISTORY = 10
"""Moves of a VM that have ended and are kept."""
_TROUBLE = ("Failed", "Alarm", "Refused")


class Mover:
    """Acts on moves; one per operator."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster, planner: MovePlanner) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events
        self._planner = planner
        self._refused_until: dict[str, float] = {}

    async def act(self, matrix: str) -> None:
        """Write what was decided for a matrix's moves. Raises ApiError when the API server is away."""
        for vm, migration in self._planner.births.get(matrix, ()):
            document = requests.move(vm, migration)
            created = await self._client.create(requests.MOVES.within(vm.namespace), document)
            self._fleet.work.observe_move(created)
        for step in self._planner.steps.get(matrix, ()):
            written = await self._write(step)
            if step.start and step.vm is not None and step.status.restarting:
                if written:  # or nobody would know, after a crash, why the VM was stopped
                    await self._stop_and_start(matrix, step, step.vm)
            elif step.start and step.vm is not None:
                await self._start(matrix, step, step.vm)

    async def settle_strays(self) -> None:
        """Refuse the moves of VMs that do not run, or have no matrix."""
        work = self._fleet.work
        if not work.complete:
            return
        strays, work.strays = work.strays, set()
        for uid in strays & work.moves.keys():
            move = work.moves[uid]
            if move.status.over or move.status.restarting or work.vm_named(move.namespace, move.vm) is not None:
                continue
            status = self._lost(move)
            await self._write(Step(move, status))

    def _lost(self, move: MoveView) -> MoveStatus:
        name = f"VM {move.namespace}/{move.vm}"
        if not move.status.migration_uid:
            text, remedy = "it does not run, or has no matrix", "see kubectl get vmi, and its annotation"
            return moves.refused(move, Refusal("NoMatrix", name, f"{text} (ap.s390x.io/matrix)", remedy))
        refusal = Refusal("VmGone", name, "it ended during the move")
        return replace(move.status, phase="Failed", line=str(refusal), refusal=refusal)

    async def _write(self, step: Step) -> bool:
        """Write the status if it says something else than before; tell the VM of a new phase or reason.

        Return whether the object says so now: it may be gone, or be another one.
        """
        move, status = step.move, step.status
        known = self._fleet.work.documents.get(move.uid)
        if known is None:
            return False
        document = requests.move_status(known, status, utc_now())
        if document["status"] == known["status"]:
            return True
        resource = requests.MOVES.within(move.namespace)
        try:
            self._fleet.work.observe_move(await self._client.apply(resource, document, subresource="status"))
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            return False
        if (status.phase, _reason(status)) != (move.status.phase, _reason(move.status)):
            await self._announce(step)
        if status.over:
            await self._forget_old(move)
        return True

    async def _announce(self, step: Step) -> None:
        status = step.status
        trouble = status.phase in _TROUBLE or _reason(status) in ("NoTarget", "NotMigratable")
        kind: Literal["Normal", "Warning"] = "Warning" if trouble else "Normal"
        reason = _reason(status) or f"Move{status.phase}"
        what = f"evacuation of node {status.source}" if status.asked_by == "evacuation" else "move"
        await self._events.post(requests.about_move(step.move), kind, reason, status.line)
        if step.vm is not None:
            await self._events.post(requests.about_vm(step.vm), kind, reason, f"{what}: {status.line}")

    async def _start(self, matrix: str, step: Step, vm: VmView) -> None:
        """Ask KubeVirt for the migration; it refuses a second one of the same VM by itself."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._refused_until.get(step.move.uid, 0.0):
            return
        hostname = self._fleet.views[step.start].labels.get(HOSTNAME, step.start)
        try:
            document = requests.migration(vm, hostname, step.move)
            made = await self._client.create(requests.MIGRATIONS.within(vm.namespace), document)
        except ApiError as error:
            if not error.status:
                raise
            self._planner.not_started(step.move)
            self._refused_until[step.move.uid] = loop.time() + _PATIENCE
            loop.call_later(_PATIENCE, self._fleet.touch, matrix)
            _LOG.info("KubeVirt refuses to migrate VM %s: %s", vm, error)
            await self._events.post(requests.about_vm(vm), "Warning", "MigrationRefused", str(error))
            return
        self._fleet.work.observe_migration(made)
        reason = "Evacuating" if step.status.asked_by == "evacuation" else "Migrating"
        await self._events.post(
            requests.about_vm(vm), "Normal", reason, f"moving from node {vm.node} to {step.start}"
        )

    async def _stop_and_start(self, matrix: str, step: Step, vm: VmView) -> None:
        """Ask KubeVirt to restart the VM if the instance that is to go still runs; the gate has it start there."""
        loop, move = asyncio.get_running_loop(), step.move
        if vm.owner is None or loop.time() < self._refused_until.get(move.uid, 0.0):
            return
        try:
            instance = await self._client.get(requests.VMIS.within(vm.namespace), vm.name)
            metadata = instance["metadata"]
            if metadata["uid"] == step.status.instance and "deletionTimestamp" not in metadata:
                # Its answer is empty, of no type: who asks for JSON is refused (406).
                path = requests.restart_path(vm.namespace, vm.owner[0])
                await self._client.request("PUT", path, body={}, accept="*/*")
        except ApiError as error:
            if not error.status:
                raise
            if not error.not_found:
                self._refused_until[move.uid] = loop.time() + _PATIENCE
                loop.call_later(_PATIENCE, self._fleet.touch, matrix)
                _LOG.info("KubeVirt refuses to restart VM %s: %s", vm, error)
                await self._events.post(requests.about_vm(vm), "Warning", "RestartRefused", str(error))
                return
        self._planner.stopped(move)
        text = f"stopped on node {vm.node}, to be started on {step.start}"
        await self._events.post(requests.about_vm(vm), "Normal", "Restarting", text)

    async def _forget_old(self, move: MoveView) -> None:
        """Delete the oldest moves of a VM that have ended, so that the history stays short."""
        ended = [m for m in self._fleet.work.moves_of(move.namespace, move.vm) if m.status.over]
        for old in ended[:-_HISTORY]:
            try:
                await self._client.delete(requests.MOVES.within(old.namespace), old.name)
            except ApiError as error:
                if not error.not_found:
                    raise


def _reason(status: MoveStatus) -> str:
    return status.refusal.reason if status.refusal is not None else ""
