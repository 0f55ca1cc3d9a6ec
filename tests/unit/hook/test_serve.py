"""The sidecar as a process: the protocol with the real grpc and protobuf, limits, and its end."""

import concurrent.futures
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_hook.connection import MAX_MESSAGE, GrpcConnection
from vfio_ap_hook.domain import add_hostdev
from vfio_ap_hook.paths import SOCKET_NAME
from vfio_ap_hook.ready import not_ready
from vfio_ap_hook.server import MAX_CLIENTS

from .support import DECORATED, KUBEVIRT, LIMIT, OTHER, UUID, Sidecar, message, running, vmi

VERSIONS = ["v1alpha1", "v1alpha2", "v1alpha3"]
DEFINE = "/kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain"
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@contextmanager
def connected(sidecar: Sidecar) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{sidecar.socket}", options=UNLIMITED) as channel:
        yield channel


def raw(channel: grpc.Channel, path: str, body: bytes) -> bytes:
    """Call with bytes in place of messages."""
    return channel.unary_unary(path)(body, timeout=LIMIT)


def fails(channel: grpc.Channel, path: str, body: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failed:
        raw(channel, path, body)
    return failed.value.code(), failed.value.details()


def answers(sidecar: Sidecar) -> bool:
    """Whether it is alive and well: a new client gets a domain."""
    with connected(sidecar) as channel:
        return UUID.encode() in raw(channel, DEFINE, params(KUBEVIRT, vmi()))


def params(domain: bytes, machine: bytes) -> bytes:
    from vfio_ap_hook.protobuf import encode

    return encode(1, domain) + encode(2, machine)


@pytest.mark.parametrize("domain", [KUBEVIRT, DECORATED], ids=["kubevirt", "decorated"])
@pytest.mark.parametrize("version", VERSIONS)
def test_on_define_domain(sidecar, protocol, version, domain):
    pb, client = getattr(protocol, version), getattr(protocol, f"{version}_grpc")
    with connected(sidecar) as channel:
        info = protocol.info_grpc.InfoStub(channel).Info(protocol.info.InfoParams(), timeout=LIMIT)
        assert version in info.versions
        assert "OnDefineDomain" in [point.name for point in info.hookPoints]
        request = pb.OnDefineDomainParams(domainXML=domain, vmi=vmi())
        reply = client.CallbacksStub(channel).OnDefineDomain(request, timeout=LIMIT)
    assert reply.domainXML == add_hostdev(domain, UUID)


@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha3"])
def test_pre_cloud_init_iso_returns_its_input(sidecar, protocol, version):
    pb, client = getattr(protocol, version), getattr(protocol, f"{version}_grpc")
    request = pb.PreCloudInitIsoParams(cloudInitNoCloudSource=b"\xff{}", vmi=b"any", cloudInitData=b'{"a":1}')
    with connected(sidecar) as channel:
        reply = client.CallbacksStub(channel).PreCloudInitIso(request, timeout=LIMIT)
    assert reply == pb.PreCloudInitIsoResult(cloudInitNoCloudSource=b"\xff{}", cloudInitData=b'{"a":1}')


def test_shutdown_ends_the_sidecar(sidecar, protocol):
    with connected(sidecar) as channel:
        stub = protocol.v1alpha3_grpc.CallbacksStub(channel)
        assert (
            stub.Shutdown(protocol.v1alpha3.ShutdownParams(), timeout=LIMIT) == protocol.v1alpha3.ShutdownResult()
        )
        assert sidecar.ended() == 0
    assert not sidecar.socket.exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_one_version_only(folder, protocol, version):
    with running(folder, "--version", version) as sidecar, connected(sidecar) as channel:
        info = protocol.info_grpc.InfoStub(channel).Info(protocol.info.InfoParams(), timeout=LIMIT)
        assert list(info.versions) == [version]
        for other in VERSIONS:
            path = f"/kubevirt.hooks.{other}.Callbacks/OnDefineDomain"
            if other == version:
                assert raw(channel, path, params(KUBEVIRT, vmi()))
            else:
                assert fails(channel, path, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        (params(b"", vmi()), grpc.StatusCode.INVALID_ARGUMENT, "the domain XML is malformed: no element found"),
        (params(KUBEVIRT, b"{"), grpc.StatusCode.INVALID_ARGUMENT, "the VMI is not JSON"),
        (params(KUBEVIRT, b"{}"), grpc.StatusCode.FAILED_PRECONDITION, "the VMI has no annotation ap.s390x.io"),
        (params(KUBEVIRT, vmi(**{"ap.s390x.io/uuid": "ü%41"})), grpc.StatusCode.FAILED_PRECONDITION, r"\xfc%41"),
        (params(add_hostdev(KUBEVIRT, OTHER), vmi()), grpc.StatusCode.FAILED_PRECONDITION, "a hostdev already"),
        (params("<Prüfung/>".encode(), vmi()), grpc.StatusCode.FAILED_PRECONDITION, "must be a <domain>"),
        (params(KUBEVIRT, vmi())[:-1], grpc.StatusCode.INVALID_ARGUMENT, "no protobuf message: truncated"),
        (b"", grpc.StatusCode.INVALID_ARGUMENT, "the VMI is not JSON"),
        (b"\xff" * 99, grpc.StatusCode.INVALID_ARGUMENT, "no protobuf message: bad varint"),
        (bytes(100 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, f"a request may have {MAX_MESSAGE} bytes"),
    ],
)  # fmt: skip
def test_a_bad_request_gets_a_sentence_and_changes_nothing(sidecar, body, code, why):
    with connected(sidecar) as channel:
        got, sentence = fails(channel, DEFINE, body)
        assert (got, why in sentence, "\n" in sentence) == (code, True, False), sentence
        assert raw(channel, DEFINE, params(KUBEVIRT, vmi()))
    assert answers(sidecar)
    assert sidecar.resident() < 64


@pytest.mark.parametrize("path", ["/", "/kubevirt.hooks.v1alpha4.Callbacks/OnDefineDomain", "/x/\u00fc"])
def test_no_such_method(sidecar, path):
    with connected(sidecar) as channel:
        assert fails(channel, path, b"")[0] is grpc.StatusCode.UNIMPLEMENTED
    assert answers(sidecar)


def test_compressed_requests_are_refused(sidecar):
    with connected(sidecar) as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(DEFINE)(bytes(9999), timeout=LIMIT, compression=grpc.Compression.Gzip)
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_domain_larger_than_the_flow_control_window(sidecar):
    domain = KUBEVIRT.replace(b"</domain>", b"<!--" + b"x" * 1_500_000 + b"--></domain>")
    with connected(sidecar) as channel:
        reply = raw(channel, DEFINE, params(domain, vmi()))
    assert reply.endswith(add_hostdev(domain, UUID))


def test_a_window_smaller_than_a_frame(client):
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 999})
    stream = client.start()
    client.send(stream, message(params(KUBEVIRT, vmi())), end=True)
    assert client.status(stream) == "0"


def test_many_calls_at_once(sidecar):
    def one(_number: int) -> bool:
        return answers(sidecar)

    with concurrent.futures.ThreadPoolExecutor(MAX_CLIENTS) as pool:
        assert all(pool.map(one, range(40)))


def test_many_calls_on_one_connection(sidecar):
    with connected(sidecar) as channel:
        calls = [channel.unary_unary(DEFINE).future(params(KUBEVIRT, vmi()), timeout=LIMIT) for _ in range(40)]
        assert len({call.result() for call in calls}) == 1


class RawClient:
    """An HTTP/2 client that says what it likes."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(str(sidecar.socket))
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()

    def start(self, path: str = DEFINE) -> int:
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "/odd/a.sock")]
        self.h2.send_headers(stream, [*headers, ("content-type", "application/grpc"), ("te", "trailers")])
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool) -> None:
        while len(data) > (room := min(16384, self.h2.local_flow_control_window(stream))):
            if room:
                self.h2.send_data(stream, data[:room])
                data = data[room:]
                self.flush()
            else:
                self.h2.receive_data(self.socket.recv(65536))
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def status(self, stream: int) -> str:
        """Return the grpc-status of a stream; every reply's end has one."""
        while data := self.socket.recv(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found = dict(event.headers).get("grpc-status")
                    if found is not None and event.stream_id == stream:
                        return found
            with suppress(BrokenPipeError):  # it may have ended, and left us its reply
                self.flush()
        return "hung up"


def hung_up(client: socket.socket) -> bool:
    """Wait for the end of what the sidecar says."""
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return True


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[RawClient]:
    opened = RawClient(sidecar)
    with opened.socket:
        yield opened


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"", "3"),
        (b"\0\0\0", "3"),
        (message(b"abc", declared=4), "3"),
        (message(b"abc", declared=2), "3"),
        (message(params(KUBEVIRT, vmi())) * 2, "3"),
        (message(b"abc", compressed=1), "12"),
        (message(b"", declared=MAX_MESSAGE + 1), "8"),
        (message(b"", declared=(1 << 32) - 1), "8"),
        (message(params(KUBEVIRT, vmi())), "0"),
    ],
)
def test_frames(sidecar, client, frame, status):
    stream = client.start()
    client.send(stream, frame[:3], end=False)
    client.send(stream, frame[3:], end=True)
    assert client.status(stream) == status
    assert answers(sidecar)


def test_an_upload_that_is_too_much_is_cut_off(sidecar, client):
    stream = client.start()
    client.send(stream, message(b"", declared=MAX_MESSAGE + 1), end=False)
    events: list[h2.events.Event] = []
    while not any(isinstance(event, h2.events.StreamReset) for event in events):
        data = client.socket.recv(65536)
        assert data
        events += client.h2.receive_data(data)
    ends = [event for event in events if isinstance(event, h2.events.StreamEnded)]
    assert [end.stream_id for end in ends] == [stream]


def test_all_requests_of_a_client_together_are_limited(sidecar, client):
    body = message(bytes(MAX_MESSAGE), declared=MAX_MESSAGE)
    for _ in range(2):
        client.send(client.start(), body[: MAX_MESSAGE // 2 - 1000], end=False)
    third = client.start()
    client.send(third, body[:3000], end=False)
    assert client.status(third) == "8"
    assert sidecar.resident() < 64


def test_a_client_that_gives_up_as_it_asks(sidecar, client):
    given_up = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        given_up, [(":method", "POST"), (":scheme", "http"), (":path", DEFINE), (":authority", "x")]
    )
    client.h2.send_data(given_up, message(params(KUBEVIRT, vmi())), end_stream=True)
    client.h2.reset_stream(given_up)
    stream = client.start()
    client.send(stream, message(params(KUBEVIRT, vmi())), end=True)
    assert client.status(stream) == "0"


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 130_000]
)
def test_no_http2(sidecar, noise):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        client.connect(str(sidecar.socket))
        client.sendall(noise)
        hung_up(client)
    assert answers(sidecar)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_upset_a_connection(first, second):
    connection = GrpcConnection(lambda _path, reply: reply)
    connection.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + first)
    if connection.open:
        connection.receive(second)
    assert connection.to_send()


def test_slow_and_silent_clients_hold_up_nobody(sidecar):
    silent = [RawClient(sidecar) for _ in range(3 * MAX_CLIENTS)]
    slow = RawClient(sidecar)
    stream = slow.start()
    slow.send(stream, message(params(KUBEVIRT, vmi()))[:50], end=False)
    assert answers(sidecar)
    assert hung_up(silent[0].socket)
    slow.send(stream, message(params(KUBEVIRT, vmi()))[50:], end=True)
    assert slow.status(stream) == "0"
    for client in [*silent, slow]:
        client.socket.close()


def test_a_client_that_does_not_read_holds_up_nobody(sidecar, client):
    client.flush()
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            client.socket.send(ping * 1000)
    assert answers(sidecar)
    assert sidecar.resident() < 64


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(sidecar, client, number):
    assert sidecar.first_line == f"INFO listening in {sidecar.folder}\n"
    client.flush()
    assert sidecar.stop(number) == 0
    assert list(sidecar.folder.iterdir()) == []
    assert hung_up(client.socket)
    assert "Traceback" not in sidecar.log()


def test_a_reply_under_way_is_delivered_after_the_signal(sidecar, client):
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 21})
    client.h2.increment_flow_control_window(1 << 21)
    stream = client.start()
    domain = KUBEVIRT.replace(b"</domain>", b"<!--" + b"x" * 1_000_000 + b"--></domain>")
    client.send(stream, message(params(domain, vmi())), end=True)
    assert answers(sidecar)  # so the other reply, larger than a socket's buffer, is on its way
    sidecar.process.send_signal(signal.SIGTERM)
    assert client.status(stream) == "0"
    assert sidecar.ended() == 0


def test_it_takes_the_place_of_one_that_was_killed(folder):
    with running(folder) as first:
        first.stop(signal.SIGKILL)
        assert first.socket.exists()
    with running(folder) as second:
        assert answers(second)


def test_it_does_not_push_out_a_living_one(sidecar):
    with running(sidecar.folder) as second:
        assert second.ended() == 1
        expected = f"ERROR cannot listen in {sidecar.folder}: another program answers at {SOCKET_NAME}\n"
        assert second.first_line == expected
    assert answers(sidecar)


def test_it_does_not_remove_another_file(folder):
    (folder / SOCKET_NAME).write_text("mine")
    with running(folder) as sidecar:
        assert sidecar.ended() == 1
    assert (folder / SOCKET_NAME).read_text() == "mine"


def test_no_folder(folder):
    with running(folder / "nowhere") as sidecar:
        assert sidecar.ended() == 1
        assert "No such file or directory" in sidecar.first_line


def test_any_user_may_connect_and_no_other_file_appears(sidecar):
    assert [path.name for path in sidecar.folder.iterdir()] == [SOCKET_NAME]
    assert sidecar.socket.stat().st_mode & 0o777 == 0o666


def test_a_long_path(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with running(folder) as sidecar:
        assert not_ready(str(folder), "/nowhere/x") == ""
        assert sidecar.stop() == 0
    assert list(folder.iterdir()) == []


def test_memory(sidecar, capsys):
    before = sidecar.resident()
    assert all(answers(sidecar) for _ in range(20))
    with capsys.disabled():
        sys.stdout.write(f"\nhook sidecar: {before:.1f} MiB resident, {sidecar.resident():.1f} after 20 domains\n")
    assert before < 25


def test_the_log_does_not_tell_what_the_domain_says(sidecar):
    with connected(sidecar) as channel:
        raw(channel, DEFINE, params(KUBEVIRT, vmi()))
        fails(channel, DEFINE, params(KUBEVIRT + b"<secret/>", vmi()))
    sidecar.stop()
    lines = sidecar.log().splitlines()
    assert lines[0] == f"INFO {DEFINE} answered"
    assert lines[1].startswith(
        f"WARNING {DEFINE} refused: the domain XML is malformed: junk after document element"
    )
    assert "ledger" not in "".join(lines)
