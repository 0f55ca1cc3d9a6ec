"""The probe: the hook must speak, and a pod with the hold volume must have been let go."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vfio_ap_hook import ready
from vfio_ap_hook.paths import SOCKET_NAME
from vfio_ap_hook.ready import not_ready

from .support import HOOK, LIMIT, Sidecar

LINES = b'ap.s390x.io/matrix="payments"\nkubernetes.io/psp="a=\\"b\\"\\nap.s390x.io/hold=\\"lifted\\""\n'


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a busy machine the time that a probe does not have."""
    monkeypatch.setattr(ready, "DEADLINE", LIMIT)


@pytest.fixture
def volume(folder: Path) -> Path:
    path = folder / "hold" / "annotations"
    path.parent.mkdir()
    return path


def test_a_pod_without_the_volume(sidecar: Sidecar):
    assert not_ready(str(sidecar.folder), str(sidecar.folder / "hold" / "annotations")) == ""


@pytest.mark.parametrize("text", [b'ap.s390x.io/hold="lifted"', LINES + b'ap.s390x.io/hold="lifted"\n'])
def test_a_lifted_pod(sidecar: Sidecar, volume: Path, text: bytes):
    volume.write_bytes(text)
    assert not_ready(str(sidecar.folder), str(volume)) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LINES + b'ap.s390x.io/hold="held"\n', "the operator has not let the migration start yet"),
        (b"", "no annotation"),
        (LINES, "no annotation"),
        (b'ap.s390x.io/holder="lifted"\n', "no annotation"),
        (b'x.ap.s390x.io/hold="lifted"\n', "no annotation"),
        (b'ap.s390x.io/hold=""\n', "neither held nor lifted"),
        (b'ap.s390x.io/hold="Lifted"\n', "neither held nor lifted"),
        (b'ap.s390x.io/hold="lifted "\n', "neither held nor lifted"),
        (b'ap.s390x.io/hold="lifted"\nap.s390x.io/hold="held"\n', "more than one"),
        (b'ap.s390x.io/hold="held"\nap.s390x.io/hold="lifted"\n', "more than one"),
        (b'ap.s390x.io/hold="lifted"\nnonsense\n', "not as the downward API"),
        (b"ap.s390x.io/hold=lifted\n", "not as the downward API"),
        (b'ap.s390x.io/hold="lifted\n', "not as the downward API"),
        (b'ap.s390x.io/hold="\n', "not as the downward API"),
        (b"\xff\0\n", "not as the downward API"),
        (b'ap.s390x.io/hold="lifted"\nx="' + b"y" * ready.MAX_BYTES + b'"\n', "too long"),
    ],
)
def test_a_held_pod(sidecar: Sidecar, volume: Path, text: bytes, why: str):
    volume.write_bytes(text)
    reason = not_ready(str(sidecar.folder), str(volume))
    assert reason.startswith("held: ")
    assert why in reason


def directory(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def file_for_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize("damage", [lambda _path: None, directory, loop, file_for_folder])
def test_a_volume_that_cannot_be_read_holds(sidecar: Sidecar, volume: Path, damage: Callable[[Path], None]):
    damage(volume)
    assert not_ready(str(sidecar.folder), str(volume)).startswith("held: the pod's annotations cannot be read")


def probe(folder: Path, *options: str) -> tuple[int, str]:
    environment = os.environ | {"HOOK_SOCKET_DIR": str(folder), "HOLD_FILE": str(folder / "hold" / "annotations")}
    command = [HOOK, "ready", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_program(sidecar: Sidecar, volume: Path):
    volume.write_bytes(b'ap.s390x.io/hold="held"\n')
    assert probe(sidecar.folder) == (1, "not ready: held: the operator has not let the migration start yet\n")
    volume.write_bytes(b'ap.s390x.io/hold="lifted"\n')
    assert probe(sidecar.folder) == (0, "")
    assert probe(sidecar.folder, "--hold-file", "/proc/self/nowhere/x") == (0, "")
    assert probe(sidecar.folder, "--hold-file", str(volume.with_name("other")))[0] == 1
    assert probe(sidecar.folder, "--socket-dir", str(volume.parent))[0] == 1


def test_no_sidecar(folder: Path):
    assert not_ready(str(folder), "/nowhere/x") == "the hook's socket cannot be reached: No such file or directory"


def test_a_sidecar_that_was_killed(sidecar: Sidecar):
    sidecar.stop(signal.SIGKILL)
    assert (
        not_ready(str(sidecar.folder), "/nowhere/x") == "the hook's socket cannot be reached: Connection refused"
    )


def test_a_sidecar_that_hangs(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ready, "DEADLINE", 0.2)
    sidecar.process.send_signal(signal.SIGSTOP)
    os.waitpid(sidecar.process.pid, os.WUNTRACED)
    assert not_ready(str(sidecar.folder), "/nowhere/x") == "the hook does not answer within 0.2 s"
    sidecar.process.send_signal(signal.SIGCONT)
    monkeypatch.setattr(ready, "DEADLINE", LIMIT)
    assert not_ready(str(sidecar.folder), "/nowhere/x") == ""


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0", b""])
def test_another_program_at_the_socket(folder: Path, greeting: bytes):
    code = (
        "import socket, sys\nserver = socket.socket(socket.AF_UNIX)\nserver.bind(sys.argv[1])\nserver.listen()\n"
        "print(flush=True)\nclient = server.accept()[0]\nclient.recv(99)\nclient.sendall(eval(sys.argv[2]))\n"
        "client.shutdown(socket.SHUT_WR)\nclient.recv(99)\n"
    )
    command = [sys.executable, "-c", code, folder / SOCKET_NAME, repr(greeting)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert not_ready(str(folder), "/nowhere/x") == "what answers at the hook's socket is not the hook"


def test_a_socket_path_that_is_longer_than_the_kernel_takes(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert not_ready(str(folder), "/nowhere/x").endswith("No such file or directory")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match="too long"):
        client.connect(str(folder / SOCKET_NAME))


def test_it_imports_next_to_nothing():
    code = (
        "import sys\nfrom vfio_ap_hook.cli import main\nsys.argv[1:] = ['ready']\nmain()\n"
        "heavy = {'argparse', 'asyncio', 'h2', 'json', 'logging', 'pathlib', 'xml', 're'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True, text=True, timeout=LIMIT, env={"HOOK_SOCKET_DIR": "/nowhere"})  # fmt: skip
    assert done.stdout.splitlines() == [
        "not ready: the hook's socket cannot be reached: No such file or directory",
        "",
    ]
