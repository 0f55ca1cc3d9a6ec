"""The LPAR of the behaviours: kernel-ap.md section 6, "LPAR default"."""

from __future__ import annotations

import sys

import pytest

from vfio_ap.host.ops import Failed, Result, Uevent, Write
from vfio_ap_sim.kernel import Control, boot, machine_from
from vfio_ap_sim.kernel.tasks import Task

A = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
B = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
BUS = "/sys/bus/ap"
MATRIX = "/sys/devices/vfio_ap/matrix"
TYPE = f"{MATRIX}/mdev_supported_types/vfio_ap-passthrough"
ALL = "0x" + "f" * 64 + "\n"
DEFAULT = {"adapters": [{"id": 4}, {"id": 5}, {"id": 6}], "usageDomains": "4,6,0xab", "maxDomain": 255}


class Lpar:
    """A modelled kernel with short words for what the behaviours do and see."""

    def __init__(self, profile: str = "K7.1", **machine: object) -> None:
        self.control: Control = boot(machine_from({**DEFAULT, **machine}), profile)
        self.kernel = self.control.kernel
        self.mark()

    def mark(self) -> None:
        """Forget the uevents and log lines so far."""
        self.kernel.uevents.history.clear()
        self.kernel.log.history.clear()

    # doing

    def start(self, path: str, text: str) -> Task[Result]:
        """Begin a write that may block."""
        return self.kernel.submit(Write(path, text.encode("latin-1")), comm="agent", pid=99)

    def write(self, path: str, text: str) -> str:
        """Write once; ``ok``, the errno's name, or ``blocks``."""
        return outcome(self.start(path, text))

    def apmask(self, text: str) -> str:
        return self.write(f"{BUS}/apmask", text)

    def aqmask(self, text: str) -> str:
        return self.write(f"{BUS}/aqmask", text)

    def create(self, uuid: str) -> str:
        return self.write(f"{TYPE}/create", uuid)

    def mdev(self, uuid: str, attribute: str, text: object) -> str:
        """Write an attribute of an mdev."""
        return self.write(f"{MATRIX}/{uuid}/{attribute}", str(text))

    def assign(self, uuid: str, *, adapters: list[int] = [], domains: list[int] = []) -> None:  # noqa: B006
        """Assign what must be free."""
        for adapter in adapters:
            assert self.mdev(uuid, "assign_adapter", adapter) == "ok"
        for domain in domains:
            assert self.mdev(uuid, "assign_domain", domain) == "ok"

    def scan(self) -> None:
        assert self.write(f"{BUS}/scans", "1") == "ok"

    # seeing

    def read(self, path: str) -> str:
        return self.kernel.read(path)

    def has(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        try:
            return name in self.kernel.list(directory)
        except OSError:
            return False

    def matrix(self, uuid: str) -> list[str]:
        return self.read(f"{MATRIX}/{uuid}/matrix").split()

    def guest_matrix(self, uuid: str) -> list[str]:
        return self.read(f"{MATRIX}/{uuid}/guest_matrix").split()

    def driver(self, queue: str) -> str | None:
        """Name of a queue's driver."""
        path = f"{BUS}/devices/{queue}/driver"
        return self.kernel.link(path).rpartition("/")[2] if self.has(path) else None

    def status(self, queue: str) -> str:
        return self.read(f"{BUS}/devices/{queue}/status").strip()

    def resets(self, queue: str) -> int:
        """How often a queue was reset."""
        adapter, _, domain = queue.partition(".")
        return self.kernel.bus.queues[int(adapter, 16) << 8 | int(domain, 16)].resets

    def events(self, **wanted: str) -> list[Uevent]:
        """Uevents since the mark that have these variables."""
        return [
            event
            for event in self.kernel.uevents.history
            if all(event.variables.get(name) == value for name, value in wanted.items())
        ]

    @property
    def log(self) -> list[str]:
        """Kernel log since the mark."""
        return [line.text for line in self.kernel.log.history]


def outcome(task: Task[Result]) -> str:
    """``ok``, the errno's name, or ``blocks``."""
    if not task.done:
        return "blocks"
    result = task.result()
    return result.name if isinstance(result, Failed) else "ok"


@pytest.fixture
def lpar() -> Lpar:
    return Lpar()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on how many pairs of machines the verdict and the kernel agreed, and what only the verdict checks."""
    for name, module in list(sys.modules.items()):
        if name.endswith(("contract.test_verdict_agreement", "contract.test_verdict_foresight")):
            for line in module.summary():
                terminalreporter.write_line(line)
