"""What the played virt-handler makes of a virt-launcher that ended before its guest began."""

import pytest

from vfio_ap_sim.kubevirt.guests import GuestController
from vfio_ap_sim.kubevirt.launcher import LauncherDiedError

TOLD = "Failed to collect all expected sidecar hook sockets within given timeout"


def vmi(phase="Scheduled"):
    return {
        "metadata": {"name": "one", "namespace": "bank"},
        "spec": {"domain": {}},
        "status": {"phase": phase, "nodeName": "n1"},
    }


class Dying:
    alive = left = False

    async def sync(self, vmi, *, raised):
        raise LauncherDiedError(TOLD)


@pytest.fixture
def controller():
    events = []

    async def say(vmi, kind, reason, message):
        events.append((kind, reason, message))

    found = GuestController("n1", say)
    found.events = events
    return found


async def test_a_launcher_that_dies_fails_its_vm(controller):
    found = vmi()
    assert await controller.sync(found, Dying(), pod_ends=False, died=False)
    assert found["status"]["phase"] == "Failed"
    assert controller.events == [("Warning", "SyncFailed", TOLD)]


async def test_one_that_died_fails_its_vm_though_the_first_write_was_lost(controller):
    found = vmi()
    await controller.sync(found, None, pod_ends=False, died=True)
    assert found["status"]["phase"] == "Failed"


async def test_without_a_launcher_so_far_the_vm_waits(controller):
    found = vmi()
    await controller.sync(found, None, pod_ends=False, died=False)
    assert found["status"]["phase"] == "Scheduled"
