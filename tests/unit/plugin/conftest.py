"""A plugin set and a played device manager in one short directory."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from vfio_ap_sim.kubelet.devices import DeviceManager

from .support import Bell


@pytest.fixture
def kubelet_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kp", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
async def manager(kubelet_dir: Path, bell: Bell) -> AsyncIterator[DeviceManager]:
    manager = DeviceManager(kubelet_dir, grace=300, changed=bell.ring)
    yield manager
    await manager.stop()
