"""What protoc makes of the protocol's files, and a sidecar to talk to."""

import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc_tools.protoc
import pytest

from .support import Sidecar, running

PROTO = Path(__file__).parents[3] / "hook-sidecar" / "proto"


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The generated modules: ``info``, ``v1alpha1`` … for the messages, with ``_grpc`` for the clients."""
    out = tmp_path_factory.mktemp("protocol")
    include = Path(grpc_tools.protoc.__file__).parent / "_proto"
    files = sorted(str(path) for path in PROTO.glob("kubevirt/hooks/*.proto"))
    options = [f"-I{PROTO}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert grpc_tools.protoc.main(["protoc", *options, *files]) == 0
    sys.path.insert(0, str(out))
    modules = {}
    for stem in (Path(file).stem for file in files):
        modules[stem] = importlib.import_module(f"kubevirt.hooks.{stem}_pb2")
        modules[f"{stem}_grpc"] = importlib.import_module(f"kubevirt.hooks.{stem}_pb2_grpc")
    yield SimpleNamespace(**modules)
    sys.path.remove(str(out))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for the socket with a path short enough for every client."""
    with tempfile.TemporaryDirectory(prefix="hook-") as path:
        yield Path(path)


@pytest.fixture
def sidecar(folder: Path) -> Iterator[Sidecar]:
    with running(folder) as started:
        yield started
