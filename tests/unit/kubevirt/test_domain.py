import doctest
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_sim.kubevirt import domain, hookwire, quantity
from vfio_ap_sim.kubevirt.domain import Mdev, domain_xml, guest_memory, parse, pooled_mdevs
from vfio_ap_sim.kubevirt.libvirterror import LibvirtError

UUID = "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11"


def vmi(**spec):
    return {"metadata": {"namespace": "bank", "name": "ledger", "uid": "u-1"}, "spec": {"domain": spec}}


def test_quantities_are_read_as_kubernetes_means_them():
    assert doctest.testmod(quantity).failed == doctest.testmod(hookwire).failed == 0
    assert quantity.bytes_of("405760Ki") == 405760 * 1024
    assert quantity.bytes_of("1M") == 10**6
    assert quantity.bytes_of(5) == 5
    for wrong in ("", "Mi", "1 Mi", "1Xi"):
        with pytest.raises(ValueError, match="not a quantity"):
            quantity.bytes_of(wrong)


@given(st.integers(0, 2**40), st.sampled_from(["", "Ki", "Mi", "Gi"]))
def test_binary_units_are_powers_of_1024(number, unit):
    assert quantity.bytes_of(f"{number}{unit}") == number * 1024 ** ["", "Ki", "Mi", "Gi"].index(unit)


def test_the_guest_is_one_of_s390x_with_kubevirts_names():
    root = ET.fromstring(domain_xml(vmi(memory={"guest": "128Mi"})))
    assert root.findtext("name") == "bank_ledger"
    kind = root.find("os/type")
    assert (kind.get("arch"), kind.get("machine"), kind.text) == ("s390x", "s390-ccw-virtio", "hvm")
    assert root.findtext(f"metadata/{{{domain.METADATA}}}kubevirt/{{{domain.METADATA}}}uid") == "u-1"
    assert root.find("cpu").get("mode") == "host-model"
    assert root.findtext("vcpu") == "1"


def test_what_is_written_is_what_is_read():
    cpu = {"model": "gen16a-base", "sockets": 2, "features": [{"name": "ap"}, {"name": "vx", "policy": "disable"}]}
    document = vmi(
        memory={"guest": "1Gi"},
        cpu=cpu,
        devices={"hostDevices": [{"name": "a", "deviceName": "x.y/z"}]},
    )
    found = parse(domain_xml(document, [UUID]))
    assert found == domain.Domain(
        "bank_ledger", 1 << 30, "custom", {"ap": "require", "vx": "disable"}, (Mdev(UUID, "vfio-pci"),)
    )


@pytest.mark.parametrize(
    ("spec", "memory"),
    [
        ({"memory": {"guest": "2Gi"}, "resources": {"requests": {"memory": "1Gi"}}}, 2 << 30),
        ({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}}, 1 << 30),
        ({"resources": {"limits": {"memory": "3Gi"}}}, 3 << 30),
        ({}, 0),
    ],
)
def test_the_guests_memory_is_what_was_asked_for_it(spec, memory):
    assert guest_memory(vmi(**spec)) == memory


def test_each_host_device_takes_one_of_what_its_plugin_gave():
    devices = [{"name": n, "deviceName": "ap.s390x.io/pay-ments"} for n in "ab"]
    document = vmi(devices={"hostDevices": devices})
    # Dashes stay (pkg/util/util.go:ResourceNameToEnvVar)
    envs = {"MDEV_PCI_RESOURCE_AP_S390X_IO_PAY-MENTS": "1,2"}
    assert pooled_mdevs(document, envs) == ["1", "2"]
    with pytest.raises(LookupError, match="failed to create hostdevice for b: no more addresses"):
        pooled_mdevs(document, {"MDEV_PCI_RESOURCE_AP_S390X_IO_PAY-MENTS": "1"})


def test_a_sidecars_hostdev_is_read_whatever_its_case():
    xml = domain_xml(vmi(memory={"guest": "1Mi"})).replace(
        "</devices>",
        f"<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{UUID.upper()}'/></source>"
        "</hostdev></devices>",
    )
    assert parse(xml).mdevs == (Mdev(UUID, "vfio-ap"),)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain>",
        "<domain/>",
        "<guest><memory>1</memory></guest>",
        "<domain><memory>1</memory><devices><hostdev type='mdev'/></devices></domain>",
    ],
)
def test_what_is_no_domain_is_refused_as_libvirt_does(xml):
    with pytest.raises(LibvirtError, match="XML error: "):
        parse(xml)
