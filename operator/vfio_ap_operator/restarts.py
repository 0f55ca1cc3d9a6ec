"""Tells VMs that run with another matrix than their template asks for that they must be restarted.

Decides nothing. An instance may be seen a moment after its VM, so what looks wrong is looked at once more.
"""

from __future__ import annotations

import asyncio

from vfio_ap.errors import Refusal
from vfio_ap.fleet.templates import TemplateView, restart_needed
from vfio_ap_kube.client import Document
from vfio_ap_kube.events import EventPoster, about
from vfio_ap_kube.snapshot.vms import template_view
from vfio_ap_operator.workloads import Workloads

_SECOND_LOOK = 3.0
"""Seconds until what looks wrong counts as wrong."""


class Restarts:
    """Knows every VirtualMachine's template."""

    def __init__(self, work: Workloads, events: EventPoster) -> None:
        self._work = work
        self._events = events
        self._templates: dict[str, TemplateView] = {}
        self._suspects: dict[str, asyncio.Task[None]] = {}

    def observe(self, document: Document) -> None:
        """Take in a VirtualMachine as it is now."""
        view = template_view(document)
        if self._templates.get(view.uid) == view:
            return
        self._templates[view.uid] = view
        if view.uid not in self._suspects and self._refusal(view) is not None:
            task = asyncio.get_running_loop().create_task(self._look_again(view.uid))
            self._suspects[view.uid] = task

    def forget(self, document: Document) -> None:
        """Drop a VirtualMachine that is gone."""
        self._templates.pop(document["metadata"]["uid"], None)

    def _refusal(self, view: TemplateView) -> Refusal | None:
        return restart_needed(view, self._work.vm_named(view.namespace, view.name))

    async def _look_again(self, uid: str) -> None:
        try:
            await asyncio.sleep(_SECOND_LOOK)
            view = self._templates.get(uid)
            if view is None or not self._work.complete:
                return
            if (refusal := self._refusal(view)) is not None:
                vm = about("kubevirt.io/v1", "VirtualMachine", view.name, view.uid, view.namespace)
                await self._events.post(vm, "Warning", refusal.reason, str(refusal))
        finally:
            self._suspects.pop(uid, None)
