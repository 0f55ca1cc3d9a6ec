"""The model as ``player.Machine``."""

from __future__ import annotations

from vfio_ap.host.ops import Data, Failed, Link, List, Names, Op, Read, Target, Write, Written
from vfio_ap_sim.kernel import Control, SysfsError, boot, machine_from
from vfio_ap_sim.kernel.kernel import Blocked
from vfio_ap_sim.kernel.tasks import Task

from . import player

FUNCTIONS = {"C": 0x93000000, "P": 0x87000000, "A": 0xEB000000}
SLCF = 0x01000000


def document(lines: list[str]) -> dict[str, object]:
    """The machine file for the lines of an ap.conf."""
    found: dict[str, object] = {}
    adapters: list[dict[str, object]] = []
    for line in lines:
        word, *rest = line.split()
        if word == "adapter":
            number, kind, *states = rest
            functions = FUNCTIONS[kind[-1]] & ~(SLCF if kind < "CEX7" else 0)
            adapter = {"id": number, "type": kind, "functions": functions}
            adapters.append(adapter | {"deconfigured": "deconf" in states, "checkstopped": "chkstop" in states})
        else:
            found[f"{word}Domains"] = rest[0]
    return {**found, "adapters": adapters}


class Modelled:
    """A freshly booted model."""

    def __init__(self, profile: str, conf: list[str]) -> None:
        self.control: Control = boot(machine_from(document(conf)), profile)
        self.kernel = self.control.kernel
        self._lines: list[str] = []
        self._events: list[dict[str, str]] = []
        self.kernel.log.subscribe(lambda line: self._lines.append(line.text))
        self.kernel.uevents.subscribe(lambda event: self._events.append(dict(event.variables)))

    # -- files

    def read(self, path: str) -> str:
        return str(self._call(Read(path)))

    def write(self, path: str, text: str) -> str:
        return str(self._call(Write(path, text.encode())))

    def list(self, path: str) -> list[str]:
        names = self._call(List(path))
        assert isinstance(names, list), path
        return names

    def link(self, path: str) -> str:
        return str(self._call(Link(path)))

    def _call(self, op: Op) -> object:
        try:
            result = self.kernel.call(op)
        except Blocked:
            return "blocks"
        match result:
            case Data(content):
                return content.decode()
            case Written(count):
                return count
            case Names(names):
                return [*names]
            case Target(target):
                return target
            case Failed() as failed:
                return failed.name

    # -- guests

    def start_guest(self, uuid: str) -> str:
        if not self.kernel.mdevs or not self.kernel.mdevs.visible(uuid):
            return "ENOENT"
        return _said(self.control.start_guest(uuid, uuid, obeys=False))

    def reset_guest(self, uuid: str) -> str:
        return _said(self.control.reset_guest(uuid))

    def end_guest(self, uuid: str) -> str:
        return _said(self.control.stop_guest(uuid))

    def remove_in_use(self, uuid: str) -> list[object]:
        writing = self.kernel.submit(Write(f"{player.MATRIX}/{uuid}/remove", b"1"))
        blocked = player.look(self)
        self.end_guest(uuid)
        result = writing.result()
        return [blocked, [str(result.count) if isinstance(result, Written) else result]]

    # -- hardware

    def configure(self, lines: list[str]) -> str:
        new = Modelled(self.kernel.profile.name, lines).kernel.hardware
        hardware = self.kernel.hardware
        hardware.adapters, hardware.usage, hardware.control = new.adapters, new.usage, new.control
        self.control.scan().result()
        return self.write(f"{player.BUS}/scans", "1")

    def settle(self) -> None:
        """Nothing goes on by itself: time stands still."""

    # -- what the kernel says

    def log(self) -> list[str]:
        lines, self._lines = self._lines, []
        return [line for line in lines if line.startswith("vfio_ap")]

    def uevents(self) -> list[dict[str, str]]:
        events, self._events = self._events, []
        return events


def _said(task: Task[None]) -> str:
    try:
        task.result()
    except SysfsError as error:
        return str(error).partition(":")[0]
    return "ok"
