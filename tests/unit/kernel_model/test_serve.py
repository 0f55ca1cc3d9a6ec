"""The socket server and the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vfio_ap.host import ops as hostops
from vfio_ap_sim.cli import main
from vfio_ap_sim.kernel import Control, ControlError, boot, machine_from
from vfio_ap_sim.serve import Simulator, ask
from vfio_ap_sim.serve.frames import receive, send
from vfio_ap_sim.serve.verbs import VERBS

A = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
MDEV = f"/sys/devices/vfio_ap/matrix/{A}"
CREATE = "/sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"
MACHINE = """
name: test
adapters: [{id: 4}, {id: 5}]
usageDomains: "4,6"
"""


class Client:
    """One connection to the file socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._id = 0

    async def send(self, *ops: hostops.Op) -> None:
        self._id += 1
        await send(self._writer, {"id": self._id, "ops": [hostops.op_to_wire(op) for op in ops]})

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            message = await receive(self._reader)
        assert message is not None
        return message

    async def run(self, *ops: hostops.Op) -> list[hostops.Result]:
        await self.send(*ops)
        answer = await self.answer()
        assert answer["id"] == self._id
        return [hostops.result_from_wire(item) for item in answer["results"]]

    async def subscribe(self, what: str) -> None:
        await send(self._writer, {"subscribe": what})
        assert await self.answer() == {"subscribed": what}

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def control() -> Control:
    return boot(machine_from({"name": "test", "adapters": [{"id": 4}, {"id": 5}], "usageDomains": "4,6"}))


@pytest.fixture
async def simulator(control: Control, tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(control, tmp_path / "files", tmp_path / "control") as simulator:
        yield simulator


async def connect(tmp_path: Path) -> Client:
    return Client(*await asyncio.open_unix_connection(tmp_path / "files"))


def write(path: str, text: str) -> hostops.Write:
    return hostops.Write(path, text.encode())


async def released(client: Client) -> None:
    """Adapter 5 released and in an mdev."""
    results = await client.run(
        write("/sys/bus/ap/apmask", "-5"),
        write(CREATE, A),
        write(f"{MDEV}/assign_adapter", "5"),
        write(f"{MDEV}/assign_domain", "6"),
    )
    assert all(isinstance(result, hostops.Written) for result in results)


@pytest.mark.usefixtures("simulator")
async def test_a_batch_is_answered_in_order(tmp_path: Path) -> None:
    client = await connect(tmp_path)
    results = await client.run(
        hostops.Read("/sys/bus/ap/bindings"),
        write("/sys/bus/ap/apmask", "-5"),
        hostops.List("/sys/bus/ap/drivers/vfio_ap"),
        hostops.Link("/sys/bus/ap/devices/05.0004/driver"),
        write("/sys/bus/ap/apmask", "junk"),
    )
    assert results == [
        hostops.Data(b"4/4 (complete)\n"),
        hostops.Written(2),
        hostops.Names(("05.0004", "05.0006", "bind", "module", "uevent", "unbind")),
        hostops.Target("../../../../bus/ap/drivers/vfio_ap"),
        hostops.Failed(22),
    ]
    client.close()


@pytest.mark.usefixtures("simulator")
async def test_nonsense_is_answered_and_survived(tmp_path: Path) -> None:
    client = await connect(tmp_path)
    await send(client._writer, {"id": 1, "ops": [["erase", "/"]]})
    assert "not a batch" in (await client.answer())["error"]
    assert await client.run(hostops.Read("/nothing")) == [hostops.Failed(2)]
    client.close()


async def test_one_slow_connection_does_not_hold_up_others(
    control: Control, simulator: Simulator, tmp_path: Path
) -> None:
    slow, quick, reader = [await connect(tmp_path) for _ in range(3)]
    await released(quick)
    control.reset_time(300)
    await slow.send(write(f"{MDEV}/unassign_adapter", "5"))
    await slow_begun(control)
    await reader.send(hostops.Read(f"{MDEV}/matrix"))
    (config,) = await quick.run(hostops.Read(f"{MDEV}/ap_config"))
    assert isinstance(config, hostops.Data)
    began = control.kernel.seconds
    (matrix,) = [hostops.result_from_wire(item) for item in (await reader.answer())["results"]]
    assert matrix == hostops.Data(b".0006\n"), "a reader of matrix waits for the reset"
    assert control.kernel.seconds - began > 0.1
    assert (await slow.answer())["results"] == [["written", 1]]


async def slow_begun(control: Control) -> None:
    """Wait until the slow writer holds the driver's lock."""
    assert control.kernel.mdevs is not None
    while not control.kernel.mdevs.driver.lock.held:
        await asyncio.sleep(0)


async def test_a_client_that_goes_away_is_a_killed_writer(
    control: Control, simulator: Simulator, tmp_path: Path
) -> None:
    client, watcher = await connect(tmp_path), await connect(tmp_path)
    await released(client)
    control.start_guest("vm", A, obeys=False)
    await watcher.subscribe("kmsg")
    await client.send(write(f"{MDEV}/remove", "1"))
    assert "Relaying device request" in (await watcher.answer())["kmsg"]["text"]
    client.close()
    line = hostops.kmsg_from_wire((await watcher.answer())["kmsg"])
    assert f"({os.getpid()}) blocked until device is released" in line.text
    control.stop_guest("vm")
    assert "Removing from iommu group" in (await watcher.answer())["kmsg"]["text"]


@pytest.mark.usefixtures("simulator")
async def test_uevents_are_published(tmp_path: Path) -> None:
    client, watcher = await connect(tmp_path), await connect(tmp_path)
    await watcher.subscribe("uevent")
    await client.run(write("/sys/bus/ap/drivers/cex4queue/unbind", "05.0004"))
    event = (await watcher.answer())["uevent"]
    assert event["ACTION"] == "unbind"
    assert event["DEVPATH"] == "/devices/ap/card05/05.0004"


@pytest.mark.usefixtures("simulator")
async def test_verbs(tmp_path: Path) -> None:
    control = tmp_path / "control"
    await ask(control, "plug", {"adapter": "9", "type": "CEX7P"})
    state = await ask(control, "show", {})
    assert [adapter["id"] for adapter in state["adapters"]] == [4, 5, 9]
    with pytest.raises(ControlError, match="no adapter 7; it has 4, 5, 9"):
        await ask(control, "unplug", {"adapter": "7"})
    with pytest.raises(ControlError, match="needs adapter"):
        await ask(control, "unplug", {})
    with pytest.raises(ControlError, match="no verb 'explode'"):
        await ask(control, "explode", {})


async def test_a_living_socket_is_not_taken_over(control: Control, simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="another simulator serves there"):
        async with Simulator(control, tmp_path / "files"):
            pass
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="there is a file"):
        async with Simulator(control, tmp_path / "file"):
            pass
    assert (tmp_path / "file").read_text() == "precious"


async def test_the_command_serves_and_controls(tmp_path: Path) -> None:
    config = tmp_path / "machine.yaml"
    config.write_text(MACHINE)
    control, files = tmp_path / "control", tmp_path / "files"
    serve = ["serve", "--config", config, "--profile", "K6.12", "--socket", files, "--control", control]
    command = [sys.executable, "-m", "vfio_ap_sim.cli"]
    started = [*command, *map(str, serve)]
    server = await asyncio.create_subprocess_exec(*started, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        async with asyncio.timeout(20):
            assert await server.stdout.readline() == f"test (K6.12) is on {files}\n".encode()
        for arguments in (["plug", "0x0a", "--type", "CEX8P"], ["klog"], ["reset-time", "20"]):
            assert await run(*command, "ctl", "--control", control, *arguments) is not None
        state = json.loads(await run(*command, "ctl", "--control", control, "show"))
        assert [adapter["id"] for adapter in state["adapters"]] == [4, 5, 10]
        assert state["profile"] == "K6.12"
        assert state["resetMs"] == 20
    finally:
        server.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
    assert not files.exists()


async def run(*command: object) -> str:
    """Run a command that must succeed and return its output."""
    program, *arguments = map(str, command)
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def test_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "machine.yaml"
    config.write_text("adapters: [{id: 300}, {id: 5, type: CEX9C}]\nspeed: 3")
    socket = str(tmp_path / "files")
    assert main(["serve", "--config", str(config), "--socket", socket]) == 1
    said = capsys.readouterr().err
    assert "adapters.0.id: id 300 is outside 0 to 255" in said
    assert "adapters.1.type" in said
    assert "speed" in said
    assert main(["ctl", "--control", str(tmp_path / "none"), "show"]) == 1
    assert "no simulator answers" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main(["ctl", "--control", "x", "reset-time", "soon"])
    assert usage.value.code == 2
    assert "invalid number value: 'soon'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ctl", "--control", "x", verb, "--help"])
    assert end.value.code == 0
    assert VERBS[verb].help.split()[0] in capsys.readouterr().out.lower()
