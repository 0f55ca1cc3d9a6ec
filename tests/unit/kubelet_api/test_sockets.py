"""Servers on unix sockets end in order and do not touch what is not theirs."""

from pathlib import Path

import pytest
from grpclib.exceptions import StreamTerminatedError
from grpclib.health.service import Health
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest

from vfio_ap_kube.kubelet.sockets import UnixServer, unix_channel


async def test_closing_hangs_up_on_clients_and_removes_the_socket(tmp_path: Path):
    server = UnixServer(tmp_path / "s.sock", [Health()])
    await server.start()
    async with unix_channel(server.path) as channel:
        async with HealthStub(channel).Watch.open() as stream:
            await stream.send_message(HealthCheckRequest())
            assert await stream.recv_message() is not None
            await server.close()
            with pytest.raises(StreamTerminatedError):
                await stream.recv_message()
        with pytest.raises(FileNotFoundError):
            await HealthStub(channel).Check(HealthCheckRequest())


async def test_a_leftover_socket_is_replaced(tmp_path: Path):
    first = UnixServer(tmp_path / "s.sock", [Health()])
    await first.start()
    second = UnixServer(tmp_path / "s.sock", [Health()])
    await second.start()
    assert second.reachable and not first.reachable

    await first.close()
    assert second.reachable, "the first server removed a socket that was no longer its own"
    await second.close()
    assert not list(tmp_path.iterdir())


async def test_a_path_too_long_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match="longer than 107 bytes"):
        UnixServer(Path("/" + 107 * "x"), [])
