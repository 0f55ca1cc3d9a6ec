"""A Lease that says its holder lives: renewed on a schedule, taken when it is free or has run out."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable

from vfio_ap_kube.client import LEASES, ApiError, Client, Document
from vfio_ap_kube.clock import time_of, utc_now

_LOG = logging.getLogger(__name__)


def last_renewed(lease: Document) -> datetime.datetime | None:
    """Return when a Lease was written last: by the API server's clock where that is told, not its holder's."""
    entries = lease["metadata"].get("managedFields") or ()
    written = (time_of(entry.get("time")) for entry in entries)
    own = time_of((lease.get("spec") or {}).get("renewTime"))
    return max((stamp for stamp in written if stamp is not None), default=own)


class Heartbeat:
    """Renews a Lease of our own; nobody else writes it, so there is nothing to win or lose."""

    def __init__(self, client: Client, namespace: str, name: str, *, seconds: int = 40) -> None:
        self._client = client
        self._resource = LEASES.within(namespace)
        self._name = name
        self._seconds = seconds

    async def run(self) -> None:
        """Renew every quarter of the Lease's duration until cancelled; failures are logged and retried."""
        while True:
            try:
                await self._client.apply(self._resource, self._document(utc_now("microseconds")))
            except ApiError as error:
                _LOG.warning("cannot renew the Lease %s: %s", self._name, error)
            await asyncio.sleep(self._seconds / 4)

    def _document(self, now: str) -> Document:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._resource.namespace},
            "spec": {"holderIdentity": self._name, "leaseDurationSeconds": self._seconds, "renewTime": now},
        }


class Leadership:
    """One holder among several: the operator's, since kopf elects no leader (anchors.md 3.4)."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str, *, seconds: int = 15) -> None:
        self._client = client
        self._resource = LEASES.within(namespace)
        self._name = name
        self._identity = identity
        self._seconds = seconds

    async def acquire(self) -> None:
        """Return once the Lease is ours. A holder that stopped renewing loses it when its time is out."""
        seen: tuple[str, float] | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                lease = await self._current()
                spec = lease.get("spec", {})
                holder, stamp = spec.get("holderIdentity", ""), str(spec.get("renewTime", ""))
                # Clocks of two machines differ: what counts is that the stamp stands still by our own clock.
                if seen is None or seen[0] != stamp:
                    seen = (stamp, loop.time())
                stale = loop.time() - seen[1] > int(spec.get("leaseDurationSeconds", self._seconds))
                if holder in ("", self._identity) or stale:
                    await self._write(lease)
                    return
            except ApiError as error:
                if not error.conflict:
                    _LOG.warning("cannot take the Lease %s: %s", self._name, error)
            await asyncio.sleep(min(2.0, self._seconds / 5))

    async def keep(self, lost: Callable[[], None]) -> None:
        """Renew until cancelled; call ``lost`` once and return when somebody else has it or time ran out."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._seconds * 2 / 3:
            await asyncio.sleep(self._seconds / 5)
            try:
                lease = await self._current()
                if lease.get("spec", {}).get("holderIdentity") != self._identity:
                    break
                await self._write(lease)
                renewed = loop.time()
            except ApiError as error:
                _LOG.warning("cannot renew the Lease %s: %s", self._name, error)
        lost()

    async def release(self) -> None:
        """Give the Lease up, so that a successor need not wait; failures are of no consequence."""
        try:
            lease = await self._current()
            if lease.get("spec", {}).get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._client.replace(self._resource, lease)
        except ApiError as error:
            _LOG.info("did not release the Lease %s: %s", self._name, error)

    async def _current(self) -> Document:
        try:
            return await self._client.get(self._resource, self._name)
        except ApiError as error:
            if not error.not_found:
                raise
            shell: Document = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._resource.namespace},
            }
            return await self._client.create(self._resource, shell)

    async def _write(self, lease: Document) -> None:
        old = lease.get("spec", {})
        taken = old.get("acquireTime") if old.get("holderIdentity") == self._identity else None
        lease["spec"] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": taken or utc_now("microseconds"),
            "renewTime": utc_now("microseconds"),
        }
        await self._client.replace(self._resource, lease)
