"""The device plugin against a played device manager, over real unix sockets."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_ap.errors import Refusal
from vfio_ap_agent.plugin import Grant, PluginSet, endpoint
from vfio_ap_sim.kubelet.devices import AdmissionError, DeviceManager

from .support import PAYMENTS, UUID, Bell, agree, pod, running

LEDGER = Grant("ap.s390x.io/ledger.v2-x", "99999999-2222-3333-4444-555555555555", "8", True)


def offered(manager: DeviceManager) -> dict[str, int]:
    return manager.capacity()[1]


async def test_a_grant_becomes_allocatable(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree, on_change=bell.ring)) as plugins:
        await plugins.set([PAYMENTS, LEDGER])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1, LEDGER.resource: 1})
        await bell.until(lambda: plugins.registered(PAYMENTS.resource) and plugins.registered(LEDGER.resource))
        assert {PAYMENTS.resource, LEDGER.resource} <= set(bell.heard)
        assert not plugins.registered("ap.s390x.io/other")


async def test_allocate_hands_over_uuid_and_group_as_kubevirt_wants_them(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell
):
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree)) as plugins:
        await plugins.set([LEDGER])
        await bell.until(lambda: offered(manager) == {LEDGER.resource: 1})
        await manager.allocate(pod(resource=LEDGER.resource))

        (held,) = manager.held("uid-1", "compute")
        assert held.devices == (LEDGER.uuid,)
        assert held.envs == {"MDEV_PCI_RESOURCE_AP_S390X_IO_LEDGER_V2-X": LEDGER.uuid}
        assert held.host_paths == ("/dev/vfio/vfio", "/dev/vfio/8")


async def test_the_group_is_the_one_the_check_saw(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    async def check(grant: Grant) -> Grant:
        return replace(grant, vfio_group="42")

    await manager.start()
    async with running(PluginSet(kubelet_dir, check)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        await manager.allocate(pod())
        assert manager.held("uid-1", "compute")[0].host_paths == ("/dev/vfio/vfio", "/dev/vfio/42")


async def test_a_refusal_reaches_the_pod_and_withholds_the_device_until_the_next_set(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell
):
    refusal = Refusal("QueueMissing", "05.00ab", "the matrix has no such queue any more", "bring the adapter back")

    async def check(grant: Grant) -> Grant | Refusal:
        return refusal

    await manager.start()
    async with running(PluginSet(kubelet_dir, check, on_change=bell.ring)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        bell.heard.clear()
        with pytest.raises(AdmissionError) as caught:
            await manager.allocate(pod())
        assert str(caught.value) == f"rpc error: code = FailedPrecondition desc = {refusal}"
        assert manager.held("uid-1", "compute") == ()

        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 0})
        assert PAYMENTS.resource in bell.heard, "the agent was not told to look again"
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})


@pytest.mark.parametrize(
    "answer",
    [
        replace(PAYMENTS, healthy=False),
        replace(PAYMENTS, uuid=LEDGER.uuid),
        replace(PAYMENTS, resource=LEDGER.resource),
    ],
)
async def test_a_check_that_answers_another_or_an_unhealthy_grant_refuses(
    answer: Grant, kubelet_dir: Path, manager: DeviceManager, bell: Bell
):
    async def check(_: Grant) -> Grant:
        return answer

    await manager.start()
    async with running(PluginSet(kubelet_dir, check)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        with pytest.raises(AdmissionError, match="FailedPrecondition"):
            await manager.allocate(pod())


async def test_a_check_that_breaks_is_not_a_yes(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    async def check(_: Grant) -> Grant:
        raise OSError("sysfs is gone")

    await manager.start()
    async with running(PluginSet(kubelet_dir, check)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        with pytest.raises(AdmissionError, match=r"Internal desc = .*sysfs is gone"):
            await manager.allocate(pod())


async def test_a_check_that_hangs_ends_at_its_deadline(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vfio_ap_agent.plugin.service.CHECK_DEADLINE", 0.01)

    async def check(_: Grant) -> Grant:
        await asyncio.Event().wait()
        raise AssertionError

    await manager.start()
    async with running(PluginSet(kubelet_dir, check)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        with pytest.raises(AdmissionError, match="DeadlineExceeded"):
            await manager.allocate(pod())


async def test_health_follows_set(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree)) as plugins:
        await plugins.set([replace(PAYMENTS, healthy=False)])
        await bell.until(lambda: manager.capacity() == ({PAYMENTS.resource: 1}, {PAYMENTS.resource: 0}))
        await plugins.set([PAYMENTS])
        await bell.until(lambda: manager.capacity() == ({PAYMENTS.resource: 1}, {PAYMENTS.resource: 1}))


async def test_a_removed_grant_is_an_empty_list_before_it_is_a_closed_socket(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell
):
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree)) as plugins:
        await plugins.set([PAYMENTS, LEDGER])
        await bell.until(lambda: sum(offered(manager).values()) == 2)
        await plugins.set([LEDGER])
        # A socket that only closed would leave capacity at 1 until the kubelet's grace period ends.
        await bell.until(lambda: manager.capacity()[0] == {PAYMENTS.resource: 0, LEDGER.resource: 1})
        assert len(list(kubelet_dir.glob("vfio-ap-*.sock"))) == 1
        assert not plugins.registered(PAYMENTS.resource)


async def test_a_restarted_kubelet_gets_everything_again(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree, on_change=bell.ring)) as plugins:
        await plugins.set([PAYMENTS, LEDGER])
        await bell.until(lambda: sum(offered(manager).values()) == 2)
        await manager.stop()
        await bell.until(lambda: not plugins.registered(PAYMENTS.resource))
        assert offered(manager) == {PAYMENTS.resource: 0, LEDGER.resource: 0}
        await manager.start()
        await bell.until(lambda: sum(offered(manager).values()) == 2)
        await manager.allocate(pod())


async def test_a_kubelet_that_starts_late_is_found(kubelet_dir: Path, manager: DeviceManager, bell: Bell):
    async with running(PluginSet(kubelet_dir, agree, on_change=bell.ring)) as plugins:
        await plugins.set([PAYMENTS])
        assert not plugins.registered(PAYMENTS.resource)
        await manager.start()
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})


async def test_a_socket_nobody_listens_on_is_tried_again_and_said_once(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell, monkeypatch: pytest.MonkeyPatch, caplog
):
    """A kubelet's socket exists from bind on, which is before it listens: no further event tells when it does."""
    tries = 0
    register = endpoint.Endpoint._register

    async def counted(self: endpoint.Endpoint) -> None:
        nonlocal tries
        tries += 1
        bell.ring()
        await register(self)

    monkeypatch.setattr(endpoint.Endpoint, "_register", counted)
    monkeypatch.setattr(endpoint, "FIRST_DELAY", 0.001)
    (kubelet_dir / "kubelet.sock").touch()
    plugins = PluginSet(kubelet_dir, agree, on_change=bell.ring)
    await plugins.set([PAYMENTS])  # no run(): nothing watches the directory
    await bell.until(lambda: tries == 4)
    await manager.start()
    await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
    await plugins.close()
    assert len([r for r in caplog.records if "cannot be reached" in r.message]) == 1


async def test_a_dropped_watch_leads_to_a_new_registration(
    kubelet_dir: Path, manager: DeviceManager, bell: Bell, monkeypatch: pytest.MonkeyPatch
):
    """The kubelet never dials again by itself."""
    monkeypatch.setattr(endpoint, "WATCH_GRACE", 0.001)
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})
        await manager.hang_up(PAYMENTS.resource)
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 0})
        await bell.until(lambda: offered(manager) == {PAYMENTS.resource: 1})


async def test_leftover_sockets_of_ours_are_removed_and_others_are_not(kubelet_dir: Path):
    ours, theirs = kubelet_dir / "vfio-ap-000000000000.sock", kubelet_dir / "kubevirt-kvm.sock"
    ours.touch()
    theirs.touch()
    plugins = PluginSet(kubelet_dir, agree)
    await plugins.set([PAYMENTS])
    names = {path.name for path in kubelet_dir.iterdir()}
    await plugins.close()
    assert ours.name not in names
    assert theirs.name in names
    assert [path.name for path in kubelet_dir.iterdir()] == [theirs.name]


async def test_a_resource_named_twice_changes_nothing(kubelet_dir: Path):
    plugins = PluginSet(kubelet_dir, agree)
    with pytest.raises(ValueError, match="twice"):
        await plugins.set([PAYMENTS, replace(PAYMENTS, uuid=LEDGER.uuid)])
    assert not list(kubelet_dir.iterdir())


async def test_run_says_when_the_directory_goes(kubelet_dir: Path):
    task = asyncio.create_task(PluginSet(kubelet_dir, agree).run())
    await asyncio.sleep(0)
    kubelet_dir.rmdir()
    with pytest.raises(FileNotFoundError, match="is gone"):
        async with asyncio.timeout(10):
            await task


async def test_nothing_is_logged_or_sent_at_rest(kubelet_dir: Path, manager: DeviceManager, bell: Bell, caplog):
    caplog.set_level("DEBUG")
    await manager.start()
    async with running(PluginSet(kubelet_dir, agree)) as plugins:
        await plugins.set([PAYMENTS])
        await bell.until(
            lambda: offered(manager) == {PAYMENTS.resource: 1} and plugins.registered(PAYMENTS.resource)
        )
        caplog.clear()
        bell.heard.clear()
        for _ in range(3):
            await plugins.set([PAYMENTS])
        await manager.allocate(pod())  # a full round trip: anything sent before it has arrived
        assert bell.heard == []
        assert not [r for r in caplog.records if r.name.startswith("vfio_ap_agent")]


@pytest.mark.parametrize(
    "fields",
    [
        {"resource": "payments"},
        {"resource": "ap.s390x.io/../x"},
        {"uuid": "../../etc"},
        {"uuid": UUID.upper().replace("1", "A")},
        {"vfio_group": "../kvm"},
        {"vfio_group": ""},
    ],
)
def test_a_grant_takes_nothing_that_could_leave_its_path(fields: dict[str, str]):
    with pytest.raises(ValueError, match="not a "):
        replace(PAYMENTS, **fields)
