"""The played device manager has the real one's manners, seen from a plugin that is not ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from vfio_ap_kube.kubelet import podresources_v1_pb2 as podresources
from vfio_ap_kube.kubelet.podresources_v1_grpc import PodResourcesListerStub
from vfio_ap_kube.kubelet.sockets import UnixServer, unix_channel
from vfio_ap_sim.kubelet.devices import AdmissionError, DeviceManager
from vfio_ap_sim.kubelet.podresources import PodResources

from .support import Bell, Plugin, pod

GPU = "example.com/gpu"


@pytest.fixture
async def plugin(kubelet_dir: Path) -> AsyncIterator[Plugin]:
    plugin = Plugin(kubelet_dir, GPU, {"g1": "Healthy", "g2": "Unhealthy"})
    yield plugin
    await plugin.server.close()


async def started(manager: DeviceManager, plugin: Plugin, bell: Bell) -> None:
    await manager.start()
    await plugin.register()
    await bell.until(lambda: manager.capacity()[0] == {GPU: len(plugin.devices)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "v1alpha"}, "not supported"),
        ({"resource_name": "gpu"}, "is invalid"),
        ({"resource_name": "kubernetes.io/gpu"}, "is invalid"),
        ({"resource_name": "sub.kubernetes.io/gpu"}, "is invalid"),
        ({"endpoint": "nobody.sock"}, "failed to dial"),
    ],
)
async def test_a_bad_registration_is_refused(manager: DeviceManager, plugin: Plugin, changes, message):
    await manager.start()
    with pytest.raises(GRPCError, match=message):
        await plugin.register(**changes)
    assert sum(manager.capacity()[0].values()) == 0


async def test_unhealthy_devices_count_as_capacity_only(manager: DeviceManager, plugin: Plugin, bell: Bell):
    await started(manager, plugin, bell)
    assert manager.capacity() == ({GPU: 2}, {GPU: 1})


async def test_a_lost_plugin_keeps_its_capacity_for_a_while_and_leaves_a_zero_once(
    kubelet_dir: Path, plugin: Plugin, bell: Bell
):
    manager = DeviceManager(kubelet_dir, grace=0.05, changed=bell.ring)
    await started(manager, plugin, bell)
    await plugin.server.close()
    await bell.until(lambda: manager.capacity() == ({GPU: 2}, {GPU: 0}))
    await bell.until(lambda: manager.capacity() == ({GPU: 0}, {GPU: 0}))
    manager.acknowledge({"example.com/other"})
    assert manager.removed == {GPU}
    manager.acknowledge({GPU})
    assert manager.capacity() == ({}, {})
    await manager.stop()


async def test_a_plugin_that_comes_back_in_time_is_whole_again(
    kubelet_dir: Path, plugin: Plugin, bell: Bell, monkeypatch: pytest.MonkeyPatch
):
    grace, timers = 77.5, []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def record(delay, *args, **kwargs):
        timer = call_later(delay, *args, **kwargs)
        if delay == grace:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", record)
    manager = DeviceManager(kubelet_dir, grace=grace, changed=bell.ring)
    await started(manager, plugin, bell)
    await plugin.server.close()
    await bell.until(lambda: manager.capacity() == ({GPU: 2}, {GPU: 0}))
    assert [timer.cancelled() for timer in timers] == [False]
    await plugin.register()
    await bell.until(lambda: manager.capacity() == ({GPU: 2}, {GPU: 1}))
    assert [timer.cancelled() for timer in timers] == [True]
    await manager.stop()


async def test_a_device_is_one_pods_at_a_time(manager: DeviceManager, plugin: Plugin, bell: Bell):
    await started(manager, plugin, bell)
    await manager.allocate(pod("uid-1", GPU))
    assert manager.held("uid-1", "compute")[0].envs == {"IDS": "g1"}
    with pytest.raises(AdmissionError, match=r"unavailable for example\.com/gpu\. Requested: 1, Available: 0"):
        await manager.allocate(pod("uid-2", GPU))
    manager.release("uid-1")
    await manager.allocate(pod("uid-2", GPU))


async def test_two_pods_at_once_do_not_get_the_same_device(manager: DeviceManager, plugin: Plugin, bell: Bell):
    await started(manager, plugin, bell)
    outcome = await asyncio.gather(
        manager.allocate(pod("uid-1", GPU)), manager.allocate(pod("uid-2", GPU)), return_exceptions=True
    )
    assert {type(result) for result in outcome} == {type(None), AdmissionError}
    assert plugin.asked == [["g1"]]


async def test_admitting_a_pod_again_asks_for_nothing_new(manager: DeviceManager, plugin: Plugin, bell: Bell):
    await started(manager, plugin, bell)
    await manager.allocate(pod("uid-1", GPU))
    await manager.allocate(pod("uid-1", GPU))
    assert plugin.asked == [["g1"]]


async def test_the_plugins_preference_is_followed(manager: DeviceManager, plugin: Plugin, bell: Bell):
    plugin.devices = {"g1": "Healthy", "g2": "Healthy", "g3": "Healthy"}
    plugin.preferred = ["g3"]
    await started(manager, plugin, bell)
    await manager.allocate(pod("uid-1", GPU))
    assert plugin.asked == [["g3"]]


async def test_a_refusal_is_told_as_grpc_go_tells_it_and_frees_the_device(
    manager: DeviceManager, plugin: Plugin, bell: Bell
):
    await started(manager, plugin, bell)
    plugin.refusal = GRPCError(Status.FAILED_PRECONDITION, "not now")
    with pytest.raises(AdmissionError, match=r"^rpc error: code = FailedPrecondition desc = not now$"):
        await manager.allocate(pod("uid-1", GPU))
    plugin.refusal = None
    await manager.allocate(pod("uid-2", GPU))


async def test_nothing_healthy_is_said_so(manager: DeviceManager, plugin: Plugin, bell: Bell):
    plugin.devices = {"g1": "Unhealthy"}
    await started(manager, plugin, bell)
    with pytest.raises(AdmissionError, match="no healthy devices present; cannot allocate unhealthy devices"):
        await manager.allocate(pod("uid-1", GPU))


async def test_resources_nobody_registered_are_not_the_device_managers(manager: DeviceManager):
    await manager.start()
    await manager.allocate(pod("uid-1", "example.com/fpga"))
    assert manager.held("uid-1", "compute") == ()


async def test_a_restart_forgets_plugins_and_sockets_but_not_who_holds_what(
    manager: DeviceManager, plugin: Plugin, bell: Bell
):
    await started(manager, plugin, bell)
    await manager.allocate(pod("uid-1", GPU))
    await manager.stop()
    await manager.start()
    assert not plugin.server.path.exists()
    assert manager.capacity() == ({GPU: 0}, {GPU: 0})
    await plugin.register()
    await bell.until(lambda: manager.capacity() == ({GPU: 2}, {GPU: 1}))
    with pytest.raises(AdmissionError, match="Available: 0"):
        await manager.allocate(pod("uid-2", GPU))


async def test_health_changes_arrive(manager: DeviceManager, plugin: Plugin, bell: Bell):
    await started(manager, plugin, bell)
    plugin.devices = {"g1": "Unhealthy", "g2": "Unhealthy", "g3": "Healthy"}
    plugin.bell.ring()
    await bell.until(lambda: manager.capacity() == ({GPU: 3}, {GPU: 1}))


async def test_pod_resources_say_who_holds_what(
    kubelet_dir: Path, manager: DeviceManager, plugin: Plugin, bell: Bell
):
    await started(manager, plugin, bell)
    await manager.allocate(pod("uid-1", GPU, name="vm"))
    server = UnixServer(kubelet_dir / "pr.sock", [PodResources(manager)])
    await server.start()
    async with unix_channel(server.path) as channel:
        answer = await PodResourcesListerStub(channel).List(podresources.ListPodResourcesRequest())
    await server.close()
    (held,) = answer.pod_resources
    assert (held.namespace, held.name) == ("payments", "vm")
    assert [(d.resource_name, list(d.device_ids)) for c in held.containers for d in c.devices] == [(GPU, ["g1"])]
