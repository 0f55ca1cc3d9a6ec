"""Asks KubeVirt for the migrations that evacuations need, and tells the VM why when one must wait.

Decides nothing. KubeVirt itself refuses a second migration of a VM; one that was just asked for is not asked for
again until the watches have had time to show its target pod.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from vfio_ap.fleet.evacuation import Evacuation, VmView
from vfio_ap.fleet.gate import HOSTNAME
from vfio_ap_kube.client import ApiError, Client, Resource
from vfio_ap_kube.events import EventPoster
from vfio_ap_operator import vms
from vfio_ap_operator.fleet import Fleet

_LOG = logging.getLogger(__name__)
_PATIENCE = 10.0
"""Seconds until a migration that nothing came of is asked for again."""
MIGRATIONS = Resource("kubevirt.io/v1", "virtualmachineinstancemigrations")


class Evacuator:
    """Acts on marked VMs; one per operator."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events
        self._steps: dict[str, tuple[VmView, Evacuation]] = {}
        self._asked: dict[str, float] = {}

    @property
    def moves(self) -> set[str]:
        """Return the matrices whose VM is to be moved."""
        return set(self._steps)

    def decide(self, matrix: str, vm: VmView | None, step: Evacuation | None) -> None:
        """Note what is to be done for a matrix's VM; nothing without a step."""
        self._steps.pop(matrix, None)
        if vm is not None and step is not None:
            self._steps[matrix] = (vm, step)
        elif vm is not None:
            self._asked.pop(vm.uid, None)

    async def act(self, matrix: str) -> None:
        """Do it. Raises ApiError when the API server is away; a refusal of KubeVirt's is told to the VM."""
        vm, step = self._steps[matrix]
        if step.wait is not None:
            await self._tell(vm, "Normal", step.wait.reason, f"evacuation of node {vm.node} waits: {step.wait}")
        if not step.start or self._just_asked(vm):
            return
        hostname = self._fleet.views[step.start].labels.get(HOSTNAME, step.start)
        try:
            await self._client.create(MIGRATIONS.within(vm.namespace), vms.migration(vm, hostname))
        except ApiError as error:
            if not error.status:
                raise
            _LOG.info("KubeVirt refuses to migrate VM %s: %s", vm, error)
            await self._tell(vm, "Warning", "MigrationRefused", str(error))
        else:
            await self._tell(vm, "Normal", "Evacuating", f"moving from node {vm.node} to {step.start}")
        # Whatever came of it, look again: a failed migration leaves no other trace here.
        asyncio.get_running_loop().call_later(_PATIENCE, self._again, matrix)

    def _just_asked(self, vm: VmView) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._asked.get(vm.uid, float("-inf")) < _PATIENCE:
            return True
        self._asked[vm.uid] = now
        return False

    def _again(self, matrix: str) -> None:
        if matrix in self._fleet.matrices:
            self._fleet.dirty_matrices.add(matrix)
            self._fleet.wake.set()

    async def _tell(self, vm: VmView, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        metadata = {"name": vm.name, "namespace": vm.namespace, "uid": vm.uid}
        about = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata}
        await self._events.post(about, kind, reason, message)
