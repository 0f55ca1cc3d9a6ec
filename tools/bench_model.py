"""What the kernel model costs: boots of big machines, masks, assignment, a thousand machines, moves of guests."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from vfio_ap_sim.kernel import Control, boot, machine_from
from vfio_ap_sim.kernel.migration import migrate

T = TypeVar("T")
MATRIX = "/sys/devices/vfio_ap/matrix"
CREATE = f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough/create"
A = "aaaaaaaa-0000-4000-8000-000000000001"


def timed(what: str, act: Callable[[], T], times: int = 1) -> T:
    """Do something and print how long it took."""
    begin = time.perf_counter()
    result = act()
    took = time.perf_counter() - begin
    each = f"  {took / times * 1000:8.3f} ms each" if times > 1 else ""
    sys.stdout.write(f"{what:<58} {took:8.3f} s{each}\n")
    return result


def machine(adapters: int, domains: int, profile: str = "K7.1") -> Control:
    """Boot a machine of adapters x domains."""
    cards = [{"id": number} for number in range(adapters)]
    return boot(machine_from({"adapters": cards, "usageDomains": f"0-{domains - 1}"}), profile)


def host() -> Control:
    """Boot a small host that can migrate, with an empty mdev."""
    control = machine(2, 2, "MIGv4PLUS")
    control.kernel.write("/sys/bus/ap/apmask", "\n")
    control.kernel.write(CREATE, A)
    return control


def guest_host() -> Control:
    """Boot such a host with a guest that has one queue."""
    control = host()
    control.kernel.write(f"{MATRIX}/{A}/assign_adapter", "0")
    control.kernel.write(f"{MATRIX}/{A}/assign_domain", "0")
    control.start_guest("vm", A)
    return control


def big(adapters: int, domains: int) -> None:
    """Boot a big machine and give all of it to one mdev."""
    kernel = timed(f"boot {adapters} x {domains}", lambda: machine(adapters, domains)).kernel
    timed("  release everything: one mask write", lambda: kernel.write("/sys/bus/ap/apmask", "\n"))
    kernel.write(CREATE, A)
    every = ",".join(["0x" + "f" * 64] * 2 + ["0"])
    timed("  assign everything: one ap_config", lambda: kernel.write(f"{MATRIX}/{A}/ap_config", every + "\n"))


def main() -> None:
    """Print the table."""
    for adapters, domains in ((16, 85), (60, 85), (256, 85), (256, 256)):
        big(adapters, domains)
    timed("boot 1000 machines of 2 x 2", lambda: [machine(2, 2) for _ in range(1000)], 1000)
    pairs = [(guest_host(), host()) for _ in range(1000)]
    timed("move 1000 guests", lambda: [migrate(*pair, A) for pair in pairs], 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"memory at most {peak} MiB\n")


if __name__ == "__main__":
    main()
