"""Plays sequences of operations on a kernel and tells what could be seen after each.

Needs only the standard library: it also runs as a program in the guest, where it plays what is in a file on the
real kernel. Starting Python takes seconds there, hence many sequences in one run.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

BUS = "/sys/bus/ap"
MATRIX = "/sys/devices/vfio_ap/matrix"
TYPE = MATRIX + "/mdev_supported_types/vfio_ap-passthrough"
ADAPTERS = (0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0C)
DOMAINS = (0x04, 0x11, 0x12, 0x47)
UUIDS = tuple(f"{c * 8}-{c * 4}-{c * 4}-{c * 4}-{c * 12}" for c in "123")
DRIVERS = ("cex4queue", "vfio_ap")
SUBSYSTEMS = ("ap", "mdev", "vfio", "vfio-dev", "matrix")
OWN_TIME = ("SEQNUM", "COMPLETECOUNT")
"""Variables of uevents that depend on what was before the sequence."""


class Machine(Protocol):
    """A kernel, its hardware and its guests; a call that fails answers with the errno's name."""

    def read(self, path: str) -> str: ...
    def write(self, path: str, text: str) -> str: ...
    def list(self, path: str) -> list[str]: ...
    def link(self, path: str) -> str: ...
    def start_guest(self, uuid: str) -> str: ...
    def reset_guest(self, uuid: str) -> str: ...
    def end_guest(self, uuid: str) -> str: ...
    def remove_in_use(self, uuid: str) -> list[object]:
        """Write ``remove``, look when it blocks, end the guest, and return the view and what the write said."""

    def configure(self, lines: list[str]) -> str:
        """Change the LPAR and scan twice: a scan tells only one change of a queue, the next one the other."""

    def settle(self) -> None:
        """Wait until what was begun and needs no further operation is over."""

    def log(self) -> list[str]:
        """Log lines of vfio_ap since the last call."""

    def uevents(self) -> list[dict[str, str]]:
        """Uevents since the last call."""


def scans(machine: Machine) -> int:
    """Return how many bus scans there were since boot; those that are over, but for their last microseconds."""
    return int(machine.read(f"{BUS}/scans"))


def postpone_scan(machine: Machine) -> None:
    """Put the kernel's next scan of its own accord off by two minutes, the most that it allows.

    It comes at a time of its own and tells what else the scans of the operations would tell.
    """
    machine.write(f"{BUS}/config_time", "120")


def play(machine: Machine, operations: list[list[Any]], lap: Callable[[], None] = lambda: None) -> list[Any]:
    """Return the view before, then for each operation what came of it, and the view at the end.

    What scans tell depends on how many there were, so their number is a part of what came of an operation.
    ``lap`` is called before the first operation and after each.
    """
    machine.log()
    machine.uevents()
    seen: list[Any] = [look_closely(machine)]
    guests: set[str] = set()
    before = scans(machine)
    lap()
    for operation in operations:
        postpone_scan(machine)
        result = perform(machine, operation, guests)
        events = [
            {name: value for name, value in event.items() if name not in OWN_TIME}
            for event in machine.uevents()
            if event.get("SUBSYSTEM") in SUBSYSTEMS
        ]
        view = {"result": result, "log": machine.log(), "uevents": events, "after": look(machine)}
        until = scans(machine)
        seen.append({"scans": until - before, **view})
        before = until
        lap()
    for uuid in sorted(guests):
        machine.end_guest(uuid)
    seen.append(look_closely(machine))
    return seen


def perform(machine: Machine, operation: list[Any], guests: set[str]) -> object:
    """Carry out one operation."""
    kind, *rest = operation
    if kind == "conf":
        return machine.configure(rest[0])
    if kind == "write":
        path, text = rest
        uuid = path.split("/")[-2]
        if path.endswith("/remove") and text == "1" and uuid in guests:
            guests.discard(uuid)
            return machine.remove_in_use(uuid)
        return machine.write(path, text)
    uuid = rest[0]
    if kind == "guest":
        if uuid in guests:
            return "runs"
        result = machine.start_guest(uuid)
        if result == "ok":
            guests.add(uuid)
        return result
    if uuid not in guests:
        return "none"
    if kind == "reset":
        return machine.reset_guest(uuid)
    guests.discard(uuid)
    return machine.end_guest(uuid)


def look(machine: Machine) -> dict[str, object]:
    """Return what an operation may change: masks, drivers, status of queues, mdevs."""
    seen: dict[str, object] = {name: machine.read(f"{BUS}/{name}") for name in ("apmask", "aqmask", "bindings")}
    for driver in DRIVERS:
        seen[driver] = [name for name in machine.list(f"{BUS}/drivers/{driver}") if "." in name]
    seen["status"] = [machine.read(f"{BUS}/devices/{name}/status") for name in seen["vfio_ap"]]  # type: ignore[attr-defined]
    texts = ("matrix", "guest_matrix", "control_domains", "ap_config")
    for uuid in sorted({*UUIDS} & {*machine.list(MATRIX)}):
        seen[uuid] = [machine.read(f"{MATRIX}/{uuid}/{text}") for text in texts]
    seen["available"] = machine.read(f"{TYPE}/available_instances")
    return seen


def look_closely(machine: Machine) -> dict[str, object]:
    """Return everything but counters and what interrupts do in their own time."""
    machine.settle()
    seen = look(machine)
    for name in ("ap_domain", "ap_adapter_mask", "ap_usage_domain_mask", "ap_control_domain_mask"):
        seen[name] = machine.read(f"{BUS}/{name}")
    for name in machine.list(f"{BUS}/devices"):
        path = f"{BUS}/devices/{name}"
        attributes = ("config", "chkstop", "online", "type", "hwtype", "ap_functions", "driver_override", "reset")
        seen[name] = [
            machine.link(path + "/driver"),
            *(machine.read(f"{path}/{attribute}") for attribute in attributes),
            machine.read(f"{path}/request_count") == "-\n",
        ]
    for uuid in machine.list("/sys/bus/mdev/devices"):
        seen[f"{uuid} names"] = machine.list(f"{MATRIX}/{uuid}")
    return seen


def tidy(machine: Machine, conf: list[str]) -> None:
    """Bring a kernel back to where a boot leaves it: new devices in their first order, no mdev, full masks."""
    postpone_scan(machine)
    for uuid in machine.list("/sys/bus/mdev/devices"):
        machine.write(f"{MATRIX}/{uuid}/remove", "1")
    names = [name for name in machine.list(f"{BUS}/devices") if "." in name]
    for name in names:
        if machine.read(f"{BUS}/devices/{name}/driver_override") not in ("\n", "ENOENT"):
            machine.write(f"{BUS}/devices/{name}/driver_override", "\n")
    for name in ("apmask", "aqmask"):
        machine.write(f"{BUS}/{name}", "+0-255")
    machine.configure([line for line in conf if not line.startswith("adapter")])
    machine.configure(conf)
    machine.write(f"{BUS}/ap_domain", str(DOMAINS[0]))


def main() -> None:
    """Play the sequences of a file on this kernel; write what was seen and how long it took to another."""
    from real import Real  # type: ignore[import-not-found]  # beside this file in the guest

    given, answers = sys.argv[1:]
    with open(given) as stream:  # noqa: PTH123  # one import less
        task = json.load(stream)
    machine, runs = Real(), []
    for operations in task["sequences"]:
        tidy(machine, task["conf"])
        laps: list[float] = []
        views = play(machine, operations, lambda laps=laps: laps.append(time.monotonic()))  # type: ignore[misc]
        runs.append({"views": views, "seconds": [end - begin for begin, end in itertools.pairwise(laps)]})
    with open(answers, "w") as stream:  # noqa: PTH123
        json.dump(runs, stream)


if __name__ == "__main__":
    main()
