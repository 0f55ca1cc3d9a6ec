import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from vfio_ap_kube.kubelet.sockets import UnixServer
from vfio_ap_sim.kubevirt import hookwire as wire
from vfio_ap_sim.kubevirt.hooks import HookError, HookManager

VMI = {"metadata": {"name": "ledger"}}


class Sidecar:
    """Answers with what it is told to, and remembers what it was asked."""

    def __init__(
        self, *, versions=("v1alpha3",), points=(wire.ON_DEFINE_DOMAIN, wire.SHUTDOWN), answer=None
    ) -> None:
        self.versions = versions
        self.points = points
        self.answer = answer or (lambda xml: xml)
        self.asked = []

    async def info(self, stream) -> None:
        await stream.recv_message()
        points = [wire.HookPoint(name=point) for point in self.points]
        await stream.send_message(wire.InfoResult(name="s", versions=self.versions, hookPoints=points))

    def _callback(self, version, method, params, result):
        async def answer(stream) -> None:
            request = await stream.recv_message()
            self.asked.append((version, method, request))
            if method == wire.ON_DEFINE_DOMAIN:
                await stream.send_message(result(domainXML=self.answer(request.domainXML)))
            else:
                await stream.send_message(result())

        return wire.callback_path(version, method), Handler(answer, Cardinality.UNARY_UNARY, params, result)

    def __mapping__(self):
        known = {wire.INFO_PATH: Handler(self.info, Cardinality.UNARY_UNARY, wire.InfoParams, wire.InfoResult)}
        for version in wire.VERSIONS:
            known |= dict(
                [
                    self._callback(
                        version, wire.ON_DEFINE_DOMAIN, wire.OnDefineDomainParams, wire.OnDefineDomainResult
                    ),
                    self._callback(version, wire.SHUTDOWN, wire.ShutdownParams, wire.ShutdownResult),
                ]
            )
        return known


@pytest.fixture
async def serve(tmp_path):
    async with AsyncExitStack() as stack:

        async def start(sidecar, folder="hook-sidecar-0", socket=None):
            (tmp_path / folder).mkdir(exist_ok=True)
            server = UnixServer(tmp_path / folder / (socket or f"{folder}.sock"), [sidecar])
            await server.start()
            stack.push_async_callback(server.close)
            return sidecar

        yield start


async def collected(folder, count):
    manager = HookManager(folder)
    await manager.collect(count, 5)
    return manager


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("v1alpha1",), "v1alpha1"), (("v1alpha1", "v1alpha2"), "v1alpha2"), (wire.VERSIONS, "v1alpha3")],
)
async def test_the_newest_version_that_both_know_is_spoken(serve, tmp_path, offered, chosen):
    sidecar = await serve(Sidecar(versions=offered, answer=lambda xml: xml + b"!"))
    manager = await collected(tmp_path, 1)
    assert await manager.on_define_domain("<domain/>", VMI) == "<domain/>!"
    ((version, _, request),) = sidecar.asked
    assert version == chosen
    assert json.loads(request.vmi) == VMI


async def test_sidecars_are_called_one_after_the_other_each_with_the_others_xml(serve, tmp_path):
    await serve(Sidecar(answer=lambda xml: xml + b"b"), "hook-sidecar-1")
    await serve(Sidecar(answer=lambda xml: xml + b"a"), "hook-sidecar-0")
    manager = await collected(tmp_path, 2)
    assert await manager.on_define_domain("x", VMI) == "xab"


async def test_a_sidecar_that_comes_late_is_awaited(serve, tmp_path):
    manager = HookManager(tmp_path)
    waiting = asyncio.create_task(manager.collect(1, 5))
    await asyncio.sleep(0)
    assert not waiting.done()
    await serve(Sidecar())
    await waiting


async def test_a_socket_at_which_nobody_answers_yet_is_asked_again(serve, tmp_path):
    (tmp_path / "hook-sidecar-0").mkdir()
    (tmp_path / "hook-sidecar-0" / "hook-sidecar-0.sock").touch()
    manager = HookManager(tmp_path)
    waiting = asyncio.create_task(manager.collect(1, 5))
    await asyncio.sleep(0)
    await serve(Sidecar())
    await waiting


async def test_two_sockets_of_one_name_count_as_one(serve, tmp_path):
    await serve(Sidecar(), "hook-sidecar-0", "same.sock")
    await serve(Sidecar(), "hook-sidecar-1", "same.sock")
    with pytest.raises(HookError, match="Failed to collect all expected sidecar hook sockets"):
        await HookManager(tmp_path).collect(2, 0.1)


async def test_a_sidecar_of_unknown_versions_is_an_error(serve, tmp_path):
    await serve(Sidecar(versions=("v2",)))
    with pytest.raises(HookError, match=r"does not expose a supported version. Exposed versions: \[v2\]"):
        await HookManager(tmp_path).collect(1, 5)


async def test_a_refusal_reads_as_grpc_for_go_prints_it(serve, tmp_path):
    def refuse(_):
        raise GRPCError(Status.FAILED_PRECONDITION, "no matrix here")

    await serve(Sidecar(answer=refuse))
    manager = await collected(tmp_path, 1)
    with pytest.raises(HookError, match=r"^rpc error: code = FailedPrecondition desc = no matrix here$"):
        await manager.on_define_domain("x", VMI)


async def test_a_sidecar_is_not_called_for_what_it_did_not_ask_for(serve, tmp_path):
    sidecar = await serve(Sidecar(points=(wire.SHUTDOWN,)))
    manager = await collected(tmp_path, 1)
    assert await manager.on_define_domain("x", VMI) == "x"
    await manager.shutdown()
    assert [method for _, method, _ in sidecar.asked] == [wire.SHUTDOWN]


async def test_only_the_newest_version_can_be_told_of_the_end(serve, tmp_path):
    sidecar = await serve(Sidecar(versions=("v1alpha2",)))
    manager = await collected(tmp_path, 1)
    await manager.shutdown()
    assert sidecar.asked == []


async def test_a_path_that_is_too_long_for_a_socket_is_reached(serve, tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    await serve(Sidecar(answer=lambda _: b"reached"))
    (tmp_path / "hook-sidecar-0").rename(deep / "hook-sidecar-0")
    manager = await collected(deep, 1)
    assert await manager.on_define_domain("x", VMI) == "reached"
