"""Guests start, and are refused for what libvirt and QEMU would refuse."""

import pytest

from vfio_ap_sim.kubevirt.api import VMIS

from .site import OVERHEAD, SPACE, condition, move, vmi, with_device

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


async def test_a_vm_without_matrix_boots_and_ends(site):
    node = await site.boot(vmi("plain"))
    assert site.guests()[node] == ["default_plain"]
    found = await site.cluster.client.get(VMIS.within(SPACE), "plain")
    assert condition(found, "LiveMigratable")["status"] == "True"
    await site.cluster.plane.kubectl("delete", "vmi", "plain")
    assert not any(site.guests().values())


async def test_deleting_the_pod_shuts_the_guest_down(site):
    await site.boot(vmi("podless"))
    await site.cluster.plane.kubectl("delete", "pod", "-l", "vm.kubevirt.io/name=podless")
    await site.vmi("podless", lambda d: d["status"]["phase"] in ("Succeeded", "Failed"), "over")
    assert not any(site.guests().values())


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
async def test_a_sidecars_device_is_in_use_on_the_node(site, version):
    device = site.device(f"used-{version}")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    assert await site.boot(with_device("used", device, "--version", version)) == "kv1"
    assert site.users(device) == {"kv1": "default_used"}
    launcher = site.kubevirt.handlers["kv1"].guest(SPACE, "used")
    assert f'<address uuid="{device.uuid}"' in launcher.xml
    assert launcher.sees_adapters


async def test_a_vm_with_host_devices_is_not_migratable_and_its_model_is_refused(site):
    device = site.device("plain-hostdevice")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    await site.create(vmi("host", devices={"hostDevices": [{"name": "ap", "deviceName": device.resource}]}))
    message = await site.failure("host")
    assert "invalid device API 'vfio-pci'" in message
    assert "device only supports 'vfio-ap'" in message
    found = await site.cluster.client.get(VMIS.within(SPACE), "host")
    assert condition(found, "LiveMigratable")["reason"] == "HostDeviceNotLiveMigratable"
    assert "HostDeviceNotLiveMigratable" in await site.refused(move("host"))


REFUSED = {
    "memory-that-may-not-be-locked": ({"memory": {"guest": "128Mi"}}, "cannot limit locked memory to 1207959552"),
    "locked-memory-without-room": (
        {"memory": {"guest": "128Mi", "reservedOverhead": {"memLock": "Required"}}},
        "cannot limit locked memory to 1207959552: Operation not permitted",
    ),
    "a-cpu-without-ap": (
        {"cpu": {"model": "gen16a-base"}, "memory": {"guest": "128Mi", "reservedOverhead": OVERHEAD}},
        "No 'ap-bus' bus found for device 'vfio-ap'",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_a_guest_is_refused_for(site, why):
    domain, message = REFUSED[why]
    device = site.device(why)
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    await site.create(with_device("refused", device, **domain))
    assert message in await site.failure("refused")
    assert site.users(device) == {"kv1": None}


@pytest.mark.parametrize("feature", ["apft", "ap"])
async def test_a_guest_whose_cpu_has_a_feature_turned_off_sees_no_adapter_or_does_not_start(site, feature):
    device = site.device(f"without-{feature}")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    cpu = {"model": "host-model", "features": [{"name": feature, "policy": "disable"}]}
    document = with_device("blind", device, cpu=cpu)
    if feature == "ap":
        await site.create(document)
        assert "No 'ap-bus' bus found for device 'vfio-ap'" in await site.failure("blind")
        return
    assert await site.boot(document) == "kv1"
    assert site.users(device) == {"kv1": "default_blind"}
    assert not site.kubevirt.handlers["kv1"].guest(SPACE, "blind").sees_adapters


async def test_a_sidecar_that_answers_nonsense_starts_no_guest(site):
    device = site.device("nonsense")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    await site.create(with_device("confused", device, "--nonsense"))
    assert "(domain_definition)" in await site.failure("confused")
    assert site.users(device) == {"kv1": None}


async def test_a_second_device_is_refused(site):
    device, other = site.device("first"), site.device("second")
    site.make(device, "kv1")
    await site.advertise(device, "kv1")
    await site.create(with_device("two", device, f"vfio-ap={other.uuid}"))
    assert "Only one hostdev of model vfio-ap is supported" in await site.failure("two")


async def test_a_device_that_the_node_does_not_have_is_refused(site):
    device = site.device("absent")
    await site.advertise(device, "kv1")
    await site.create(with_device("absent", device))
    assert f"device not found: mediated device '{device.uuid}' not found" in await site.failure("absent")


async def test_a_device_that_the_pod_was_not_given_is_refused_until_it_is(site):
    device = site.device("not-granted")
    site.make(device, "kv1", "kv2", "old")
    document = vmi(
        "thief",
        sidecar=[f"vfio-ap={device.uuid}"],
        memory={"guest": "128Mi", "reservedOverhead": OVERHEAD},
    )
    await site.create(document)
    assert "failed to open /dev/vfio/0: No such file or directory" in await site.failure("thief")
    assert set(site.users(device).values()) == {None}


async def test_a_sidecar_that_does_not_come_up_fails_the_vm(site):
    await site.create(vmi("mute", sidecar=["--no-such-option"]))
    await site.vmi("mute", lambda d: d["status"]["phase"] == "Failed", "Failed")
