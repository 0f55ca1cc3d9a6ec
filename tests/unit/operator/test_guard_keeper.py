"""What the guards say together is what the Fleet goes by, and an outage changes nothing of it."""

import asyncio

import pytest

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import ApiError
from vfio_ap_kube.preconditions import kubevirt, policies
from vfio_ap_operator import guard
from vfio_ap_operator.fleet import Fleet

MISSING = Refusal("PolicyMissing", "ValidatingAdmissionPolicy vfio-ap-pods", "it does not exist", "install it")
UNSAFE = {"metadata": {"name": "kubevirt", "namespace": "kubevirt"}, "spec": {}}


class Posted:
    def __init__(self):
        self.reasons = []

    async def post(self, about, kind, reason, message):
        self.reasons.append((about["kind"], kind, reason))


@pytest.mark.looptime
async def test_policies_are_watched_and_an_outage_changes_nothing(monkeypatch):
    answers = [ApiError(0, "Unreachable", "away"), MISSING, MISSING, ApiError(0, "Unreachable", "away"), None]
    seen = []

    async def check(client):
        seen.append(fleet.guard)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, ApiError):
            raise answer
        return answer

    monkeypatch.setattr(policies, "check", check)
    fleet = Fleet()
    found = guard.GuardKeeper(fleet, None, Posted(), "kubevirt")
    task = asyncio.create_task(found.run())
    await found.proven.wait()
    assert fleet.guard is MISSING
    await asyncio.sleep(200)
    task.cancel()
    assert seen[:5] == [None, None, MISSING, MISSING, MISSING]
    assert fleet.guard is None
    assert len(seen) < 12


async def test_kubevirt_is_told_once_and_the_policies_come_first():
    fleet, posted = Fleet(), Posted()
    found = guard.GuardKeeper(fleet, None, posted, "kubevirt")
    await found.defined(None)
    await found.configured([UNSAFE])
    await found.configured([UNSAFE])
    assert fleet.guard.reason == "KubeVirtUnsafe"
    assert posted.reasons == [("KubeVirt", "Warning", "KubeVirtUnsafe")]
    await found.configured([])
    assert fleet.guard is None


async def test_an_old_kubevirt_is_sent_to_no_setting_and_its_upgrade_is_seen():
    schema = {}
    for name in reversed(kubevirt.LOCK):
        schema = {"properties": {name: schema}}
    old, new = ({"spec": {"versions": [{"served": True, "schema": s}]}} for s in ({}, {"openAPIV3Schema": schema}))
    fleet, posted = Fleet(), Posted()
    found = guard.GuardKeeper(fleet, None, posted, "kubevirt")
    await found.configured([UNSAFE])
    assert fleet.guard is None, "its definition was not told yet"
    await found.defined(old)
    assert fleet.guard.reason == "KubeVirtTooOld"
    await found.defined(new)
    assert fleet.guard.reason == "KubeVirtUnsafe"
    assert [reason for *_, reason in posted.reasons] == ["KubeVirtTooOld", "KubeVirtUnsafe"]
