"""The plugin answers a gRPC implementation that is not ours, and answers nonsense with a status.

The kubelet's client is grpc-go; gRPC's C core, which comes with grpcio-tools, speaks to ``unix:`` addresses as
that does.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vfio_ap_agent.plugin import PluginSet
from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb

from .support import PAYMENTS, UUID, agree

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: no second client to try")

REQUESTS = {
    "GetDevicePluginOptions": (pb.Empty, pb.DevicePluginOptions),
    "GetPreferredAllocation": (pb.PreferredAllocationRequest, pb.PreferredAllocationResponse),
    "Allocate": (pb.AllocateRequest, pb.AllocateResponse),
    "PreStartContainer": (pb.PreStartContainerRequest, pb.PreStartContainerResponse),
}


class Kubelet:
    def __init__(self, channel) -> None:
        self.channel = channel

    async def call(self, method: str, request):
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        rpc = self.channel.unary_unary(f"/v1beta1.DevicePlugin/{method}")
        return REQUESTS[method][1].FromString(await rpc(raw, timeout=10))

    def watch(self):
        rpc = self.channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch", response_deserializer=pb.ListAndWatchResponse.FromString
        )
        return rpc(b"")


@pytest.fixture
async def plugins(kubelet_dir: Path) -> AsyncIterator[PluginSet]:
    plugins = PluginSet(kubelet_dir, agree)
    await plugins.set([PAYMENTS])
    yield plugins
    await plugins.close()


@pytest.fixture
async def kubelet(kubelet_dir: Path, plugins: PluginSet) -> AsyncIterator[Kubelet]:
    (socket,) = kubelet_dir.glob("*.sock")
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        yield Kubelet(channel)


def allocate(*containers: list[str]) -> pb.AllocateRequest:
    return pb.AllocateRequest(
        container_requests=[pb.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
    )


def prefer(available: list[str], must: list[str], size: int) -> pb.PreferredAllocationRequest:
    return pb.PreferredAllocationRequest(
        container_requests=[
            pb.ContainerPreferredAllocationRequest(
                available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=size
            )
        ]
    )


async def test_the_whole_conversation(kubelet: Kubelet, plugins: PluginSet):
    options = await kubelet.call("GetDevicePluginOptions", pb.Empty())
    assert options.get_preferred_allocation_available and not options.pre_start_required

    watch = kubelet.watch()
    assert [(d.ID, d.health) for d in (await watch.read()).devices] == [(UUID, "Healthy")]

    preferred = await kubelet.call("GetPreferredAllocation", prefer([UUID], [], 1))
    assert [list(c.deviceIDs) for c in preferred.container_responses] == [[UUID]]

    answer = await kubelet.call("Allocate", allocate([UUID]))
    (container,) = answer.container_responses
    assert dict(container.envs) == {"MDEV_PCI_RESOURCE_AP_S390X_IO_PAYMENTS": UUID}
    assert [(d.container_path, d.host_path, d.permissions) for d in container.devices] == [
        ("/dev/vfio/vfio", "/dev/vfio/vfio", "mrw"),
        ("/dev/vfio/7", "/dev/vfio/7", "mrw"),
    ]

    await plugins.set([])
    assert list((await watch.read()).devices) == []
    assert await watch.read() is grpc.aio.EOF
    assert await watch.code() == grpc.StatusCode.OK


async def test_a_list_is_sent_for_a_change_only(kubelet: Kubelet, plugins: PluginSet):
    watch = kubelet.watch()
    await watch.read()
    for _ in range(3):
        await plugins.set([PAYMENTS])
        await kubelet.call("GetDevicePluginOptions", pb.Empty())
    await plugins.set([])
    assert list((await watch.read()).devices) == []


async def test_nothing_is_preferred_where_the_device_is_taken(kubelet: Kubelet):
    preferred = await kubelet.call("GetPreferredAllocation", prefer([], [], 1))
    assert [list(c.deviceIDs) for c in preferred.container_responses] == [[]]


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("Allocate", pb.AllocateRequest(), "INVALID_ARGUMENT"),
        ("Allocate", allocate([]), "INVALID_ARGUMENT"),
        ("Allocate", allocate([UUID, UUID]), "INVALID_ARGUMENT"),
        ("Allocate", allocate([UUID], [UUID]), "INVALID_ARGUMENT"),
        ("Allocate", allocate(["../../etc/passwd"]), "INVALID_ARGUMENT"),
        ("Allocate", b"\xff\xff\xff", "INVALID_ARGUMENT"),
        ("GetPreferredAllocation", prefer([UUID], [], 2), "INVALID_ARGUMENT"),
        ("GetPreferredAllocation", prefer([UUID], ["other"], 1), "INVALID_ARGUMENT"),
        ("PreStartContainer", pb.PreStartContainerRequest(devices_ids=[UUID]), "UNIMPLEMENTED"),
    ],
)
async def test_a_bad_request_gets_a_status_and_changes_nothing(kubelet: Kubelet, method, request_, code):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kubelet.call(method, request_)
    assert caught.value.code().name == code
    assert caught.value.details()

    assert (await kubelet.call("Allocate", allocate([UUID]))).container_responses
