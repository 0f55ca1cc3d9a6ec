import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane.errors import NotReadyError, ProcessDiedError
from vfio_ap_sim.controlplane.process import Server


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


@pytest.fixture
def shell(tmp_path):
    """Make a server out of a line of shell; ``up`` in its log says that it runs."""
    made = []

    def make(script: str) -> Server:
        server = Server("it", ["/bin/sh", "-c", script], tmp_path / "it.log")
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()


async def up(server: Server) -> None:
    async def probe() -> str:
        return "" if "up" in server.log.read_text() else "not up"

    await server.ready(probe, 20)


async def never() -> str:
    return "the probe's own words"


async def test_it_runs_until_it_is_stopped(shell):
    server = shell("echo up; exec sleep 60")
    server.start()
    await up(server)
    pid = server.pid
    assert pid is not None
    server.start()
    assert server.pid == pid, "a second start while it runs starts nothing"
    await server.stop(10)
    assert server.pid is None
    assert not alive(pid)
    await server.stop(10)


async def test_a_proxy_of_the_user_is_not_asked_for_what_is_on_this_machine(shell, monkeypatch):
    for name in ("HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://proxy.example.com:3128")
    server = shell("env; echo up; exec sleep 60")
    server.start()
    await up(server)
    assert "proxy.example.com" not in server.log.read_text()


async def test_it_can_be_started_again(shell):
    server = shell("echo up; exec sleep 60")
    server.start()
    await up(server)
    await server.stop(10)
    server.start()
    assert server.pid is not None


async def test_sigterm_comes_first(shell):
    server = shell("trap 'echo ended in order; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    server.start()
    await up(server)
    await server.stop(10)
    assert "ended in order" in server.log.read_text()


async def test_one_that_ignores_sigterm_is_killed_with_its_children(shell):
    server = shell("trap '' TERM; sleep 60 & echo $! up; while :; do sleep 0.02; done")
    server.start()
    await up(server)
    pid, child = server.pid, int(server.log.read_text().split()[0])
    await server.stop(0.2)
    assert not alive(pid)
    await gone(child)


async def test_a_stop_that_is_cancelled_kills(shell):
    server = shell("trap '' TERM; echo up; while :; do sleep 0.02; done")
    server.start()
    await up(server)
    pid = server.pid
    stopping = asyncio.create_task(server.stop(60))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not alive(pid)


async def test_one_that_dies_is_reported_with_the_end_of_its_log(shell):
    server = shell("seq 1 100; echo cannot bind >&2; exit 3")
    server.start()
    with pytest.raises(ProcessDiedError) as caught:
        await server.ready(never, 20)
    text = str(caught.value)
    assert "ended with 3" in text
    assert "cannot bind" in text
    assert "  100\n" in text
    assert "  50\n" not in text
    assert str(server.log) in text


async def test_a_program_that_the_kernel_does_not_start_is_named_with_the_reason(tmp_path):
    damaged = tmp_path / "etcd"
    damaged.write_text("nonsense")
    damaged.chmod(0o755)
    server = Server("etcd", [str(damaged)], tmp_path / "log")
    server.start()
    with pytest.raises(ProcessDiedError) as caught:
        await server.ready(never, 20)
    text = str(caught.value)
    assert f"{damaged}: Exec format error" in text
    assert "Traceback" not in text
    assert f"got again once it is deleted: {damaged}" in text


async def test_one_that_is_not_ready_in_time_says_what_was_missing(shell):
    server = shell("echo still thinking; exec sleep 60")
    server.start()
    with pytest.raises(NotReadyError) as caught:
        await server.ready(never, 0.3)
    assert "the probe's own words" in str(caught.value)


def test_it_dies_with_us_even_when_we_are_killed(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from vfio_ap_sim.controlplane.process import Server
        server = Server("it", ["/bin/sh", "-c", "echo up; exec sleep 60"], Path(sys.argv[1]))
        server.start()
        while not server.log.read_text():
            time.sleep(0.01)
        print(server.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    try:
        child = int(parent.stdout.readline())
        assert alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


async def test_ctrl_c_of_the_terminal_does_not_reach_it(shell):
    server = shell("echo up; exec sleep 60")
    server.start()
    await up(server)
    assert os.getpgid(server.pid) != os.getpgid(0)
