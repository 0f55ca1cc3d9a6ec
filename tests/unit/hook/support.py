"""A guest's domain and VMI, and the sidecar as a process."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfio_ap_hook.paths import SOCKET_NAME

UUID = "62177883-f1bb-47f0-914d-32a22e3a8804"
OTHER = "cef03c3c-903d-4ecc-9a83-40694cb8aee4"
DATA = Path(__file__).with_name("data")
KUBEVIRT = (DATA / "kubevirt.xml").read_bytes()
DECORATED = (DATA / "decorated.xml").read_bytes()
ELEMENT = (
    b"<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='%s'/></source></hostdev>"
    % UUID.encode()
)
HOOK = Path(sys.executable).with_name("vfio-ap-hook")
LIMIT = 20.0
"""Seconds that anything may take here; only a failing test waits so long."""


def vmi(**annotations: str) -> bytes:
    """Return a VMI as virt-launcher sends it: with the operator's annotations, or the given ones."""
    marks = annotations or {"ap.s390x.io/uuid": UUID, "ap.s390x.io/matrix": "payments"}
    metadata = {"name": "ledger", "namespace": "payments", "annotations": marks}
    spec = {"architecture": "s390x", "domain": {"devices": {}, "machine": {"type": "s390-ccw-virtio"}}}
    return json.dumps({"kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}).encode()


def message(body: bytes, *, compressed: int = 0, declared: int | None = None) -> bytes:
    """Return a gRPC message's frame."""
    return bytes([compressed]) + (len(body) if declared is None else declared).to_bytes(4, "big") + body


class Sidecar:
    """``vfio-ap-hook serve`` as KubeVirt starts it, from the moment that it says it listens."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / SOCKET_NAME
        environment = os.environ | {"HOOK_SOCKET_DIR": str(folder)}
        self.process = subprocess.Popen([HOOK, "serve", *options], env=environment, stderr=subprocess.PIPE)
        self.first_line = self._line()

    def _line(self) -> str:
        assert self.process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            assert selector.select(LIMIT), "the sidecar says nothing"
        return self.process.stderr.readline().decode()

    def resident(self) -> float:
        """Return the MiB of memory that it has resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(LIMIT)

    def log(self) -> str:
        """Return what it said after the first line; it must have ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Sidecar]:
    sidecar = Sidecar(folder, *options)
    try:
        yield sidecar
    finally:
        sidecar.process.kill()
        sidecar.process.wait(LIMIT)
        if sidecar.process.stderr is not None:
            sidecar.process.stderr.close()
