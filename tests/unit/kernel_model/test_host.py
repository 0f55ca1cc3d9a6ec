"""The model as a host in the same process."""

from __future__ import annotations

import asyncio

import pytest

from vfio_ap.host.ops import Data, HostOps, Read, Write, Written
from vfio_ap_sim.kernel import Control, InProcessHost, boot, machine_from

A = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
MDEV = f"/sys/devices/vfio_ap/matrix/{A}"
CREATE = "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"


@pytest.fixture
def control() -> Control:
    control = boot(machine_from({"adapters": [{"id": 5}], "usageDomains": 6}))
    for path, text in (
        ("/sys/bus/ap/apmask", "-5"),
        (CREATE, A),
        (f"{MDEV}/assign_adapter", "5"),
        (f"{MDEV}/assign_domain", "6"),
    ):
        control.kernel.write(path, text)
    return control


async def test_it_is_a_host(control: Control) -> None:
    host: HostOps = InProcessHost(control.kernel)
    assert await host.run([Read(f"{MDEV}/matrix"), Write(f"{MDEV}/unassign_domain", b"6")], deadline=1) == [
        Data(b"05.0006\n"),
        Written(1),
    ]


async def test_a_pending_operation_ends_when_time_passes(control: Control) -> None:
    control.reset_time(100)
    host = InProcessHost(control.kernel)
    run = asyncio.create_task(host.run([Write(f"{MDEV}/unassign_domain", b"6")], deadline=5))
    await asyncio.sleep(0)
    assert not run.done()
    control.kernel.advance(0.2)
    assert await run == [Written(1)]


async def test_the_deadline_kills_the_worker(control: Control) -> None:
    control.start_guest("vm", A, obeys=False)
    host = InProcessHost(control.kernel, comm="worker", pid=7)
    with pytest.raises(TimeoutError):
        await host.run([Write(f"{MDEV}/remove", b"1"), Read("/proc/sysinfo")], deadline=0.01)
    assert control.kernel.log.history[-1].text.endswith('task "worker" (7) blocked until device is released')
    control.stop_guest("vm")
    assert A not in control.kernel.list("/sys/devices/vfio_ap/matrix"), "the removal goes on without its writer"


async def test_subscriptions_begin_when_asked_for(control: Control) -> None:
    host = InProcessHost(control.kernel)
    uevents, lines = host.subscribe_uevents(), host.subscribe_kmsg()
    control.kernel.write(f"{MDEV}/remove", "1")
    assert (await anext(uevents)).variables["ACTION"] == "remove"
    assert (await anext(lines)).text == f"vfio_ap_mdev {A}: Removing from iommu group 0"
