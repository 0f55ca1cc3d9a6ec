"""Many machines in one process, and big ones."""

from __future__ import annotations

from vfio_ap_sim.kernel import Control, boot, machine_from

MACHINES = 1000
BUS = "/sys/bus/ap"
TYPE = "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough"


def small(number: int) -> Control:
    document = {"name": f"node{number}", "adapters": [{"id": 5}, {"id": 6}], "usageDomains": "4,6"}
    return boot(machine_from(document))


def test_a_thousand_machines_live_in_one_process_and_do_not_know_each_other() -> None:
    machines = [small(number) for number in range(MACHINES)]
    for control in machines[::2]:
        control.kernel.write(f"{BUS}/apmask", "-5")
        control.kernel.write(f"{TYPE}/create", "aaaaaaaa-0000-4000-8000-000000000001")
    states = [control.kernel.read(f"{BUS}/bindings") for control in machines]
    assert states == ["4/4 (complete)\n"] * MACHINES
    left = [control.kernel.read(f"{TYPE}/available_instances") for control in machines]
    assert left == ["65535\n", "65536\n"] * (MACHINES // 2)
    serials = {control.kernel.read("/sys/devices/ap/card06/serialnr") for control in machines}
    assert len(serials) > MACHINES - 5, "each has hardware of its own"


def test_a_machine_of_60_adapters_and_85_domains_is_whole() -> None:
    document = {"adapters": [{"id": number} for number in range(60)], "usageDomains": "0-84", "maxDomain": 84}
    kernel = boot(machine_from(document)).kernel
    assert kernel.read(f"{BUS}/bindings") == "5100/5100 (complete)\n"
    assert len(kernel.list(f"{BUS}/devices")) == 5160
