"""A release server on loopback, a Go that is a shell script, and a tool that both know."""

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane.cache import Cache
from vfio_ap_sim.controlplane.progress import Progress
from vfio_ap_sim.controlplane.tools import GoBuild, Release, Tool

PROGRAM = b"#!/bin/sh\necho the release\n"


@dataclass
class ReleaseServer:
    """Serves ``files`` by path; ``cut`` names those whose connection ends half-way; ``asked`` counts."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def publish(self, name: str, data: bytes) -> str:
        """Publish ``data`` and its checksum; return the sum."""
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"/{name}"] = data
        self.files[f"/{name}.sha256"] = digest.encode()
        return digest


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy of this machine out of loopback's way."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[ReleaseServer]:
    state = ReleaseServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if self.path in state.cut else data)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def tool(server: ReleaseServer) -> Tool:
    """A program of its own file, as Kubernetes publishes them."""
    server.publish("thing", PROGRAM)
    return Tool(
        "thing",
        "v1",
        Release(f"{server.url}/thing", f"{server.url}/thing.sha256"),
        GoBuild("etcd", "example.com/thing", (("example.com/version", "v1"),)),
    )


@pytest.fixture
def archived(server: ReleaseServer) -> Tool:
    """A program in a tarball with a file of sums, as etcd publishes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("thing-v1/thing")
        info.size = len(PROGRAM)
        tar.addfile(info, io.BytesIO(PROGRAM))
    digest = server.publish("thing-v1.tar.gz", out.getvalue())
    server.files["/SHA256SUMS"] = f"{'0' * 64}  other.tar.gz\n{digest}  thing-v1.tar.gz\n".encode()
    return Tool(
        "thing",
        "v1",
        Release(f"{server.url}/thing-v1.tar.gz", f"{server.url}/SHA256SUMS", "thing-v1/thing"),
        GoBuild("etcd", "example.com/thing"),
    )


@pytest.fixture
def said() -> list[str]:
    """The lines of progress."""
    return []


@pytest.fixture
def progress(said: list[str]) -> Progress:
    return Progress(said.append)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def fake_go(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Make a ``go`` and return an environment that finds it; its program holds its arguments."""

    def make(version: str = "go1.26.0", build: str = '(echo "#!/bin/sh"; echo "$@") > "$out"') -> dict[str, str]:
        folder = tmp_path / "gobin"
        folder.mkdir(exist_ok=True)
        go = folder / "go"
        go.write_text(
            "#!/bin/sh\n"
            f'if [ "$1" = env ]; then echo {version}; exit 0; fi\n'
            'out=; prev=; for a in "$@"; do [ "$prev" = -o ] && out=$a; prev=$a; done\n'
            f"{build}\n"
        )
        go.chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(tmp_path)}

    return make
