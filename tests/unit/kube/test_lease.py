"""One leader at a time, by our own clock; a heartbeat that goes on."""

import asyncio

import pytest

from vfio_ap_kube.client import ApiError
from vfio_ap_kube.lease import Heartbeat, Leadership


class Leases:
    """A played collection with one Lease and optimistic locking; no time passes in it."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.down = False
        self.applied = []

    def _check(self):
        if self.down:
            raise ApiError(0, "Unreachable", "played outage")

    async def get(self, resource, name):
        self._check()
        if self.lease is None:
            raise ApiError(404, "NotFound", name)
        return {**self.lease, "spec": dict(self.lease.get("spec", {}))}

    async def create(self, resource, document):
        return await self.replace(resource, document)

    async def replace(self, resource, document):
        self._check()
        if document["metadata"].get("resourceVersion") != (str(self.version) if self.lease else None):
            raise ApiError(409, "Conflict", "changed")
        self.version += 1
        self.lease = {**document, "metadata": {**document["metadata"], "resourceVersion": str(self.version)}}
        return self.lease

    async def apply(self, resource, document):
        self._check()
        self.applied.append(document)


def contender(leases, name):
    return Leadership(leases, "ns", "operator", name)


@pytest.mark.looptime
async def test_the_second_waits_until_the_first_stops_renewing():
    leases, lost = Leases(), []
    first, second = contender(leases, "a"), contender(leases, "b")
    await first.acquire()
    keeper = asyncio.create_task(first.keep(lambda: lost.append("a")))
    waiter = asyncio.create_task(second.acquire())
    await asyncio.sleep(60)
    assert not waiter.done()
    keeper.cancel()
    await asyncio.wait_for(waiter, 40)
    assert leases.lease["spec"]["holderIdentity"] == "b"
    assert lost == []


@pytest.mark.looptime
async def test_a_released_lease_is_taken_at_once():
    leases = Leases()
    await contender(leases, "a").acquire()
    await contender(leases, "a").release()
    await asyncio.wait_for(contender(leases, "b").acquire(), 0.1)


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["taken", "outage"])
async def test_the_holder_stops_when_it_may_no_longer_lead(how):
    leases, lost = Leases(), []
    first = contender(leases, "a")
    await first.acquire()
    keeper = asyncio.create_task(first.keep(lambda: lost.append("a")))
    await asyncio.sleep(1)
    if how == "taken":
        leases.lease["spec"]["holderIdentity"] = "b"
    else:
        leases.down = True
    await asyncio.wait_for(keeper, 15)
    assert lost == ["a"]


@pytest.mark.looptime
async def test_a_heartbeat_outlasts_an_outage():
    leases = Leases()
    beat = asyncio.create_task(Heartbeat(leases, "ns", "n1").run())
    await asyncio.sleep(21)
    before = len(leases.applied)
    leases.down = True
    await asyncio.sleep(60)
    leases.down = False
    await asyncio.sleep(11)
    beat.cancel()
    assert before == 3
    assert len(leases.applied) > before
