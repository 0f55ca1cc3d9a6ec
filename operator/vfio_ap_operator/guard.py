"""Keeps the guards' word current: what they say together is why nothing may be provisioned, or nothing.

The policies are looked at now and then, and often while they are not in order; KubeVirt's configuration
and what its VMs can ask for are told by the watches. Until both have spoken nothing may be decided.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import ApiError, Client, Document
from vfio_ap_kube.events import EventPoster
from vfio_ap_kube.preconditions import kubevirt, policies
from vfio_ap_operator.fleet import Fleet

_LOG = logging.getLogger(__name__)
_AT_REST, _IN_TROUBLE = 60.0, 1.0
"""Seconds between looks at the policies while they are in order, and while they are not."""


class GuardKeeper:
    """Writes the Fleet's guard."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster, namespace: str) -> None:
        """Prepare; ``namespace`` is where the chart's policies look for KubeVirt."""
        self._fleet = fleet
        self._client = client
        self._events = events
        self._namespace = namespace
        self._policies: Refusal | None = None
        self._kubevirt: Refusal | None = None
        self._kubevirts: list[Document] | None = None
        self._definition: Document | None = None
        self._defined = False
        self.proven = asyncio.Event()
        """The policies were looked at."""

    async def run(self) -> None:
        """Look at the policies until cancelled; while the API server is away, what it said last holds."""
        while True:
            try:
                self._policies = await policies.check(self._client)
                self._tell(self._policies)
                self.proven.set()
            except ApiError as error:
                _LOG.warning("cannot look at the admission policies: %s", error)
            calm = self.proven.is_set() and self._policies is None
            await asyncio.sleep(_AT_REST if calm else _IN_TROUBLE)

    async def configured(self, kubevirts: Iterable[Document]) -> None:
        """Take in the KubeVirt objects as they are now."""
        self._kubevirts = list(kubevirts)
        await self._judge()

    async def defined(self, definition: Document | None) -> None:
        """Take in KubeVirt's definition of a VM as it is now, None where there is none."""
        self._definition, self._defined = definition, True
        await self._judge()

    async def _judge(self) -> None:
        """Judge once both were told: an old KubeVirt is not sent to settings that it does not have."""
        if self._kubevirts is None or not self._defined:
            return
        found = kubevirt.refusal_of(self._kubevirts, self._namespace, self._definition)
        before, self._kubevirt = self._kubevirt, found
        self._tell(self._kubevirt)
        if self._kubevirt is not None and self._kubevirt != before:
            about = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", **self._kubevirts[0]}
            await self._events.post(about, "Warning", self._kubevirt.reason, str(self._kubevirt))

    def _tell(self, refusal: Refusal | None) -> None:
        if self._fleet.set_guard(self._policies or self._kubevirt) and refusal is not None:
            _LOG.error("nothing is provisioned: %s", refusal)
