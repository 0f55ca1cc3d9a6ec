"""What can be read of a queue only while the host's driver has it, kept with its time (C-16, Q-17).

Master key patterns and EP11 modes of queues, and serial numbers of adapters, are read while cex4queue has the
queue and remembered over restarts and reboots, so that a status can show the keys of queues that guests have.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from vfio_ap.errors import RefusedError
from vfio_ap.host.mkvp import parse_mkvps
from vfio_ap.host.ops import HostOps, Read
from vfio_ap.host.view import HOST_DRIVER, HostView
from vfio_ap.matrix import Apqn
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.files import Files
from vfio_ap_agent.statedir import StateDir

_LOG = logging.getLogger(__name__)
_NAME = "samples.json"
Clock = Callable[[], str]


def utc_now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class QueueSample:
    """Keys of one queue at a time."""

    time: str
    keys: dict[str, str] = field(default_factory=dict)
    """Pattern or state by register, ``AES CUR``."""
    modes: str = ""
    """EP11 operation modes."""


@dataclass(frozen=True, slots=True)
class AdapterSample:
    """What an adapter answered at a time."""

    time: str
    serial: str = ""
    firmware: str = ""
    type: str = ""
    modes: str = ""
    """EP11 operation modes (C-15)."""


class Samples:
    """All samples of a host."""

    def __init__(self, state: StateDir, clock: Clock = utc_now) -> None:
        self._state = state
        self._clock = clock
        self.queues: dict[Apqn, QueueSample] = {}
        self.adapters: dict[int, AdapterSample] = {}
        self._sets: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        document = state.load(_NAME)
        try:
            sets = {str(name): self._shared(dict(keys)) for name, keys in document.get("keySets", {}).items()}
            for name, (time, keys, modes) in document.get("queues", {}).items():
                self.queues[Apqn.parse(name)] = QueueSample(str(time), sets[keys], str(modes))
            for name, item in document.get("adapters", {}).items():
                self.adapters[int(name)] = AdapterSample(**item)
        except (RefusedError, AttributeError, KeyError, TypeError, ValueError) as error:
            state.set_aside(_NAME, repr(error))
            self.queues, self.adapters = {}, {}

    async def take(self, host: HostOps, view: HostView, apqns: Iterable[Apqn] | None = None) -> None:
        """Read these queues, or all, and their adapters, and write down what was learnt.

        Raises as ``HostOps.run``, and RefusedError when the state directory cannot be written. A queue that gives
        no answer keeps its old sample.
        """
        asked = None if apqns is None else set(apqns)
        chosen = [apqn for apqn in self._readable(view) if asked is None or apqn in asked]
        if not chosen:
            return
        files = Files(host)
        cards = {apqn.adapter for apqn in chosen}
        reads = [f"{paths.queue(apqn)}/{name}" for apqn in chosen for name in ("mkvps", "op_modes")]
        reads += [
            f"{paths.card(adapter)}/{name}" for adapter in cards for name in ("serialnr", "FW_version", "op_modes")
        ]
        await files.fetch(Read(path) for path in reads)
        now = self._clock()
        for adapter in sorted(cards):
            self._learn_adapter(files, view, adapter, now)
        for apqn in chosen:
            self._learn_queue(files, apqn, now)
        self._save()

    def _readable(self, view: HostView) -> list[Apqn]:
        kinds = {number for number, adapter in view.adapters.items() if adapter.type[-1:] in ("C", "P")}
        return [q for q, queue in view.queues.items() if queue.driver == HOST_DRIVER and q.adapter in kinds]

    def _learn_adapter(self, files: Files, view: HostView, adapter: int, now: str) -> None:
        path = paths.card(adapter)
        serial, firmware = _quiet(files, f"{path}/serialnr"), _quiet(files, f"{path}/FW_version")
        kind = view.adapters[adapter].type
        old = self.adapters.get(adapter)
        if old is not None and (old.type != kind or (serial and old.serial and old.serial != serial)):
            self.queues = {apqn: sample for apqn, sample in self.queues.items() if apqn.adapter != adapter}
        if serial:
            self.adapters[adapter] = AdapterSample(now, serial, firmware, kind, _quiet(files, f"{path}/op_modes"))

    def _learn_queue(self, files: Files, apqn: Apqn, now: str) -> None:
        path = paths.queue(apqn)
        try:
            keys = self._shared(parse_mkvps(_quiet(files, f"{path}/mkvps")))
        except RefusedError as error:
            _LOG.warning("queue %s: %s", apqn, error.refusal)
            return
        modes = _quiet(files, f"{path}/op_modes")
        if keys or modes:
            self.queues[apqn] = QueueSample(now, keys, modes)

    def _shared(self, keys: dict[str, str]) -> dict[str, str]:
        """Return the one dictionary for these keys: thousands of queues share a few sets."""
        return self._sets.setdefault(tuple(sorted(keys.items())), keys)

    def _save(self) -> None:
        names: dict[int, str] = {}
        sets: dict[str, dict[str, str]] = {}
        queues = {}
        for apqn, sample in self.queues.items():
            name = names.setdefault(id(sample.keys), str(len(names)))
            sets[name] = sample.keys
            queues[str(apqn)] = [sample.time, name, sample.modes]
        adapters = {str(number): asdict(sample) for number, sample in self.adapters.items()}
        self._state.save(_NAME, {"keySets": sets, "queues": queues, "adapters": adapters})


def _quiet(files: Files, path: str) -> str:
    """Return a file's text, empty where a card does not answer: no sample is no reason to stop anything."""
    return "" if files.failed(Read(path)) is not None else (files.text(path) or "").strip()
