"""The AP bus: masks, limits, machine, adapters and queues."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.masks import HostMasks
from vfio_ap.host.ops import List, Op, Read
from vfio_ap.host.view import GUEST_DRIVER, HOST_DRIVER, AdapterView, MachineView, QueueControl, QueueView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.files import Changed, Files, nonsense

_BUS_FILES = (
    "ap_max_adapter_id", "ap_max_domain_id", "ap_adapter_mask", "ap_usage_domain_mask", "ap_control_domain_mask",
    "apmask", "aqmask", "features", "bindings", "bindings_complete_count",
)  # fmt: skip
_CARD = re.compile(r"card([0-9a-f]{2})")
_QUEUE = re.compile(r"[0-9a-f]{2}\.[0-9a-f]{4}")
_WORD = re.compile(r"0x[0-9a-fA-F]{8}")
_DRIVERS = ("cex4card", HOST_DRIVER, GUEST_DRIVER)


def bus_ops() -> list[Op]:
    """Return the first batch: what is needed to know what else to read."""
    return [
        *(Read(f"{paths.BUS}/{name}") for name in _BUS_FILES),
        List(f"{paths.BUS}/devices"),
        List(paths.DRIVERS),
        *(List(f"{paths.DRIVERS}/{name}") for name in _DRIVERS),
        Read(paths.SYSINFO),
        Read(paths.RELEASE),
        Read(paths.BOOT_ID),
    ]


class Bus:
    """The bus as read."""

    def __init__(self, files: Files) -> None:
        """Parse the first batch. Raises RefusedError NoApBus where there is none."""
        self._files = files
        devices = files.names(f"{paths.BUS}/devices")
        if devices is None or files.text(f"{paths.BUS}/apmask") is None:
            raise RefusedError(
                Refusal("NoApBus", "host", f"has no {paths.BUS}", "a machine without AP facilities needs no agent")
            )
        self.adapters = sorted(int(match[1], 16) for name in devices if (match := _CARD.fullmatch(name)))
        apqns = sorted(Apqn.parse(name) for name in devices if _QUEUE.fullmatch(name))
        self._apqns: dict[int, list[Apqn]] = {adapter: [] for adapter in self.adapters}
        for apqn in apqns:
            if apqn.adapter not in self._apqns:
                raise Changed(f"{paths.BUS}/devices/{apqn}")  # a queue goes before its card
            self._apqns[apqn.adapter].append(apqn)
        self._bound: dict[str, str] = {}
        self._same: dict[QueueView, QueueView] = {}
        self.adapter_views: dict[int, AdapterView] = {}
        self.queue_views: dict[Apqn, QueueView] = {}
        self.driver_override = False
        """Whether this kernel's queues have overrides (Q-7)."""
        self.drivers = files.names(paths.DRIVERS) or ()
        self.masks = HostMasks(self._mask("apmask"), self._mask("aqmask"))
        self.present = self._present()
        self.bindings = (files.text(f"{paths.BUS}/bindings") or "").strip()

    def _mask(self, name: str) -> IdSet:
        return IdSet.from_mask(self._files.needed(f"{paths.BUS}/{name}"))

    def _present(self) -> Matrix:
        """Return what the machine gives this host; without QCI the devices tell (B-4)."""
        texts = [
            self._files.text(f"{paths.BUS}/ap_{n}_mask") for n in ("adapter", "usage_domain", "control_domain")
        ]
        if any(text is None or text.strip() == "not supported" for text in texts):
            return Matrix(
                IdSet.from_ids(self.adapters),
                IdSet.from_ids({q.domain for row in self._apqns.values() for q in row}),
            )
        return Matrix(*(IdSet.from_mask(text) for text in texts if text is not None))

    def maximum(self, what: str) -> int:
        """Return the largest adapter or domain id (B-2, B-3)."""
        path = f"{paths.BUS}/ap_max_{what}_id"
        text = self._files.needed(path).strip()
        if not text.isdecimal() or int(text) > 255:
            raise nonsense(path, text)
        return int(text)

    def features(self) -> list[str]:
        """Return the bus's own tokens and the names of files that tell kernels apart."""
        text = self._files.text(f"{paths.BUS}/features") or ""
        found = [word for word in text.split() if word != "-"]
        if self._files.text(f"{paths.BUS}/bindings_complete_count") is not None:
            found.append("bindings_complete_count")
        return found

    def snapshot_ops(self) -> list[Op]:
        """Return what is read twice, to see whether the host stood still."""
        mdevs: list[Op] = [List(paths.MATRIX), List(paths.MDEV_BUS)]
        masks: list[Op] = [Read(f"{paths.BUS}/apmask"), Read(f"{paths.BUS}/aqmask"), List(f"{paths.BUS}/devices")]
        return [*masks, *(List(f"{paths.DRIVERS}/{name}") for name in (HOST_DRIVER, GUEST_DRIVER)), *mdevs]

    # -- devices

    def driver_ops(self) -> Iterable[Op]:
        """Return what lists the queues of drivers that are not known in advance."""
        return (List(f"{paths.DRIVERS}/{name}") for name in self.drivers)

    def learn_drivers(self) -> None:
        """Take in which driver has which queue."""
        names = ((driver, self._files.names(f"{paths.DRIVERS}/{driver}") or ()) for driver in self.drivers)
        self._bound = {name: driver for driver, bound in names for name in bound}

    def device_ops(self, adapter: int) -> Iterable[Op]:
        """Return what is read of an adapter and its queues, but for what waits for vfio_ap's lock."""
        for file in ("type", "ap_functions", "online", "config", "chkstop"):
            yield Read(f"{paths.card(adapter)}/{file}")
        for apqn in self._apqns[adapter]:
            path = paths.queue(apqn)
            for file in ("ap_functions", "driver_override"):
                yield Read(f"{path}/{file}")

    def status_ops(self, adapter: int) -> Iterable[Op]:
        """Return reads that wait while a queue is being reset (V-14)."""
        for apqn in self._apqns[adapter]:
            if self._bound.get(str(apqn)) == GUEST_DRIVER:
                yield Read(f"{paths.queue(apqn)}/status")

    def take(self, files: Files, adapter: int) -> None:
        """Take in an adapter and its queues. Thousands of queues say the same few things: each is kept once."""
        path = paths.card(adapter)
        self.adapter_views[adapter] = AdapterView(
            adapter,
            (files.text(f"{path}/type") or "").strip(),
            _word(files, f"{path}/ap_functions"),
            _flag(files, f"{path}/online", optional=True),
            _flag(files, f"{path}/config"),
            _flag(files, f"{path}/chkstop"),
        )
        for apqn in self._apqns[adapter]:
            path, driver = paths.queue(apqn), self._bound.get(str(apqn), "")
            override = files.text(f"{path}/driver_override")
            self.driver_override |= override is not None
            queue = QueueView(
                driver,
                _status(files, path) if driver == GUEST_DRIVER else "",
                _word(files, f"{path}/ap_functions"),
                (override or "").strip(),
            )
            self.queue_views[apqn] = self._same.setdefault(queue, queue)


def _status(files: Files, path: str) -> str:
    text = files.needed(f"{path}/status").strip()
    if text not in ("unassigned", "assigned", "in use"):
        raise nonsense(f"{path}/status", text)
    return text


def _flag(files: Files, path: str, *, optional: bool = False) -> bool | None:
    text = files.text(path)
    if text is None:
        if optional:
            return None
        raise Changed(path)
    if text.strip() not in ("0", "1"):
        raise nonsense(path, text)
    return text.strip() == "1"


def _word(files: Files, path: str) -> int | None:
    """Return a facility word; None where the kernel shows none or TAPQ failed (Q-6)."""
    if files.failed(Read(path)) is not None:
        return None
    text = (files.text(path) or "").strip()
    if not _WORD.fullmatch(text):
        raise nonsense(path, text)
    return int(text, 16)


def queue_control(queues: Iterable[QueueView]) -> QueueControl:
    """Return how this host takes queues from its driver: an override on any queue excludes masks (K-15)."""
    return "DriverOverride" if any(queue.override for queue in queues) else "Masks"


def parse_sysinfo(text: str) -> MachineView:
    """Return machine and LPAR from the lines of /proc/sysinfo."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            said.setdefault(name.strip(), value.strip())
    parts = [said.get(name, "") for name in ("Manufacturer", "Type", "Sequence Code")]
    identity = "-".join(parts) if all(parts) else ""
    return MachineView(identity, said.get("Model", "").split(" ")[0], said.get("LPAR Name", ""))
