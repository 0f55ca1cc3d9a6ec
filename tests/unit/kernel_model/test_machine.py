"""The machine file."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from vfio_ap_sim.kernel import ControlError, boot, load_machine, machine_from
from vfio_ap_sim.kernel.machine import parse_id_list, render_id_list

FULL = """
name: lpar7
machine: {manufacturer: IBM, type: "9175", model: ME1, sequence: "00000000000ABCDE", lpar: KVM7}
adapters:
  - {id: 5, type: CEX8C, keys: {default: payments, 0x11: next}}
  - {id: "0x0a", type: CEX7P, depth: 16, serial: "1234567812345678", deconfigured: true}
usageDomains: "4,6,0x10-0x12"
controlDomains: 4
maxDomain: 84
knobs: {resetMs: 20, guestObeys: false}
vfioApLoaded: false
apmask: "0xfb"
"""


def test_a_full_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(FULL)
    kernel = boot(load_machine(path)).kernel
    sysinfo = kernel.read("/proc/sysinfo")
    assert "Type:                 9175\n" in sysinfo
    assert "Sequence Code:        00000000000ABCDE\n" in sysinfo
    assert "LPAR Name:            KVM7    \n" in sysinfo
    assert "/sys/devices/vfio_ap" not in kernel.list("/sys/devices")
    assert kernel.read("/sys/bus/ap/ap_max_domain_id") == "84\n"
    assert kernel.read("/sys/devices/ap/card0a/config") == "0\n"
    assert kernel.read("/sys/devices/ap/card0a/depth") == "16\n"
    assert kernel.read("/proc/sys/kernel/osrelease") == "7.1.8\n"
    assert len(kernel.list("/sys/devices/ap/card05")) > 20


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"adapters": [{"id": 5}, {"id": 5}]}, "adapter 5 appears twice"),
        ({"adapters": [{"id": 256}]}, "adapters.0.id: id 256 is outside 0 to 255"),
        ({"adapters": [{"id": "five"}]}, "'five' is not a number"),
        ({"adapters": [{"id": True}]}, "True is not an id"),
        ({"adapters": [{"id": 5, "type": "CEX3C"}]}, "adapters.0.type"),
        ({"adapters": [{"id": 5, "keys": {"x": "a"}}]}, "'x' is not a number"),
        ({"adapters": [{"id": 9}], "maxAdapter": 8}, "adapter 9 is above maxAdapter 8"),
        ({"usageDomains": "4-"}, "usageDomains: '' is not a number"),
        ({"usageDomains": "6-4"}, "runs backwards"),
        ({"usageDomains": "85", "maxDomain": 84}, "domain 85 is above maxDomain 84"),
        ({"knobs": {"resetMs": -1}}, "knobs.resetMs"),
        ({"apmask": "junk"}, "apmask: 'junk' is not in the kernel's mask grammar"),
        ({"speed": 1}, "speed: Extra inputs"),
        (["adapters"], "machine: Input should be"),
    ],
)
def test_errors_name_the_field(document: object, said: str) -> None:
    with pytest.raises(ControlError, match="the machine file is not valid") as refused:
        machine_from(document)
    assert said in str(refused.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="cannot read"):
        load_machine(tmp_path / "none")
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(ControlError, match="is not YAML"):
        load_machine(tmp_path / "bad")


def test_id_lists() -> None:
    assert render_id_list(parse_id_list("0x10-0x12, 4")) == "4,16,17,18"
    assert parse_id_list("") == parse_id_list(None) == 0


def test_a_full_machine_boots_quickly() -> None:
    began = monotonic()
    machine = machine_from({"adapters": [{"id": n} for n in range(60)], "usageDomains": "0-84", "maxDomain": 84})
    kernel = boot(machine).kernel
    assert kernel.read("/sys/bus/ap/bindings") == "5100/5100 (complete)\n"
    assert monotonic() - began < 1


def test_the_same_file_gives_the_same_machine() -> None:
    one, two = (boot(machine_from({"adapters": [{"id": 5}], "usageDomains": 6})) for _ in range(2))
    for path in ("/sys/bus/ap/devices/05.0006/mkvps", "/sys/bus/ap/devices/card05/serialnr"):
        assert one.kernel.read(path) == two.kernel.read(path)
    other = boot(machine_from({"name": "other", "adapters": [{"id": 5}], "usageDomains": 6}))
    assert other.kernel.read(path) != one.kernel.read(path)
