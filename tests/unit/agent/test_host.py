"""The worker process and the client: one write per store, deadlines that hold, and nothing that hangs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_ap.host.ops import Data, Failed, Link, List, Names, Read, Target, Write, Written
from vfio_ap_agent.host import worker
from vfio_ap_agent.host.client import LanedHost, StuckWriteError, open_host
from vfio_ap_agent.host.events import parse_kmsg, uevents
from vfio_ap_sim.kernel import boot, machine_from
from vfio_ap_sim.serve import Simulator


@pytest.fixture
async def host(tmp_path):
    """A host whose /sys is a folder."""
    (tmp_path / "sys" / "bus").mkdir(parents=True)
    laned = open_host(str(tmp_path / "sys"))
    yield laned
    await laned.close()


async def test_operations_on_files_as_the_kernel_would_answer_them(host, tmp_path):
    bus = tmp_path / "sys" / "bus"
    (bus / "apmask").write_bytes(b"0xff\xff\n")
    (bus / "link").symlink_to("../apmask")
    ops = [
        Read("/sys/bus/apmask"),
        List("/sys/bus"),
        Link("/sys/bus/link"),
        Read("/sys/none"),
        Write("/sys/new", b"1"),
    ]
    assert await host.run(ops, deadline=10) == [
        Data(b"0xff\xff\n"), Names(("apmask", "link")), Target("../apmask"), Failed(2), Failed(2),
    ]  # fmt: skip
    assert not (tmp_path / "sys" / "new").exists()


async def test_a_write_neither_creates_nor_truncates_and_is_one_system_call(host, tmp_path):
    file = tmp_path / "sys" / "apmask"
    file.write_bytes(b"0123456789")
    assert await host.run([Write("/sys/apmask", b"-5\n")], deadline=10) == [Written(3)]
    assert file.read_bytes() == b"-5\n3456789"


def test_a_store_is_one_write_of_the_system(tmp_path, monkeypatch):
    """Two would be two edits of a mask, the second of them absolute (S-4, K-5)."""
    (tmp_path / "apmask").write_bytes(b"")
    calls = []
    monkeypatch.setattr(worker.os, "write", lambda file, data: calls.append(data) or len(data))
    assert worker.write(str(tmp_path / "apmask"), b"-5,-6\n") == 6
    assert calls == [b"-5,-6\n"]


async def test_a_read_that_hangs_is_given_up_and_the_next_one_works(host, tmp_path):
    os.mkfifo(tmp_path / "sys" / "hangs")
    (tmp_path / "sys" / "fine").write_text("1")
    with pytest.raises(TimeoutError):
        await host.run([Write("/sys/hangs", b"1")], deadline=0.3)  # nobody reads the other end
    assert (host.last_stuck.path, host.last_stuck.writing) == ("/sys/hangs", True)
    assert await host.run([Read("/sys/fine")], deadline=10) == [Data(b"1")]
    assert await host.run([Write("/sys/fine", b"2")], deadline=10) == [Written(1)]
    assert host.last_stuck is None


async def test_reads_go_on_while_a_write_waits(host, tmp_path):
    os.mkfifo(tmp_path / "sys" / "remove")
    (tmp_path / "sys" / "fine").write_text("1")
    waiting = asyncio.ensure_future(host.run([Write("/sys/remove", b"1")], deadline=30))
    assert await host.run([Read("/sys/fine")], deadline=10) == [Data(b"1")]
    assert await host.run([Write("/sys/fine", b"2")], deadline=10) == [Written(1)]
    assert not waiting.done()
    with (tmp_path / "sys" / "remove").open() as other:
        assert await waiting == [Written(1)]
        assert other.read() == "1"


class Immortal:
    """A lane whose worker waits in the kernel beyond killing (V-34)."""

    def __init__(self):
        self.released = asyncio.Event()
        self.connection = self

    async def exchange(self, ops):
        await asyncio.Event().wait()

    async def end(self):
        return False

    async def gone(self):
        await self.released.wait()


async def test_a_worker_that_cannot_die_is_counted_and_blocks_writes_until_it_has_gone():
    lanes = []

    async def opener():
        lanes.append(Immortal())
        return lanes[-1]

    host = LanedHost(opener)
    with pytest.raises(TimeoutError):
        await host.run([Write("/sys/a/apmask", b"1")], deadline=0.01)
    assert [(stuck.path, stuck.seconds) for stuck in host.left_behind] == [("/sys/a/apmask", 0.01)]
    with pytest.raises(StuckWriteError):
        await host.run([Write("/sys/b", b"1")], deadline=0.01)
    lanes[0].released.set()
    while host.left_behind:
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):  # sent now, and stuck for its own reasons
        await host.run([Write("/sys/b", b"1")], deadline=0.01)


async def test_a_removal_that_hangs_does_not_keep_others_from_writing():
    lanes = []

    async def opener():
        lanes.append(Immortal())
        return lanes[-1]

    host = LanedHost(opener)
    for path in ("/sys/a/remove", "/sys/b"):
        with pytest.raises(TimeoutError):
            await host.run([Write(path, b"1")], deadline=0.01)
    assert len(host.left_behind) == len(lanes) == 2


async def test_the_same_over_the_simulators_socket(tmp_path):
    control = boot(machine_from({"adapters": [{"id": 5}], "usageDomains": "4"}))
    path = tmp_path / "socket"
    async with Simulator(control, path):
        host = open_host(f"unix:{path}")
        events = uevents(f"unix:{path}")
        first = asyncio.ensure_future(anext(events))
        assert await host.run([Read("/sys/bus/ap/bindings")], deadline=10) == [Data(b"1/1 (complete)\n")]
        while not first.done():  # the subscription may begin after any one write
            await host.run(
                [Write("/sys/bus/ap/apmask", b"-5\n"), Write("/sys/bus/ap/apmask", b"+5\n")], deadline=10
            )
        assert (await first).variables["SUBSYSTEM"] == "ap"
        await events.aclose()
        await host.close()


async def test_a_socket_that_is_not_there_is_a_connection_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        await open_host(f"unix:{tmp_path}/none").run([Read("/sys")], deadline=1)


def test_the_worker_imports_next_to_nothing():
    code = "import sys, runpy; sys.stdin.close(); runpy.run_path(sys.argv[1]); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code, worker.__file__], capture_output=True, text=True)
    assert not {"asyncio", "socket", "subprocess", "vfio_ap"} & set(done.stdout.split())


def test_proc_and_dev_beside_a_sysfs_stand_for_the_hosts(tmp_path: Path):
    root = str(tmp_path / "sys")
    assert worker.place("/sys/bus", root) == f"{root}/bus"
    assert worker.place("/proc/1", root) == "/proc/1"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "sysinfo").touch()
    assert worker.place("/proc/1", root) == f"{tmp_path}/proc/1"
    assert worker.place("/systems", root) == f"{tmp_path}/systems"


def test_kernel_log_records():
    line = parse_kmsg(b"4,339,5140900,-;vfio_ap_mdev x: text; more\n SUBSYSTEM=ap\n")
    assert (line.priority, line.sequence, line.microseconds) == (4, 339, 5140900)
    assert line.text == "vfio_ap_mdev x: text; more"
    assert parse_kmsg(b"nonsense") is None
