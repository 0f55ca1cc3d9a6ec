"""The generated code beside the .proto files is what those files say."""

from pathlib import Path

import pytest

from vfio_ap_kube.kubelet import deviceplugin_v1beta1_pb2 as pb
from vfio_ap_kube.kubelet import generate

pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: the generated code cannot be compared")


def test_committed_code_is_up_to_date(tmp_path: Path):
    fresh = generate.generate(tmp_path)

    committed = sorted(
        path for pattern in ("*_pb2.py", "*_pb2.pyi", "*_grpc.py") for path in generate.PACKAGE.glob(pattern)
    )
    assert [path.name for path in fresh] == [path.name for path in committed]
    for new, old in zip(fresh, committed, strict=True):
        assert new.read_text() == old.read_text(), f"{old.name} is stale: run make proto"


def test_field_numbers_are_the_kubelets():
    """Bytes as a kubelet sends them, spelt out by hand."""
    request = pb.AllocateRequest.FromString(b"\x0a\x05\x0a\x03abc")
    assert list(request.container_requests[0].devices_ids) == ["abc"]

    answer = pb.ContainerAllocateResponse(
        envs={"k": "v"}, devices=[pb.DeviceSpec(container_path="c", host_path="h", permissions="mrw")]
    )
    assert answer.SerializeToString() == b"\x0a\x06\x0a\x01k\x12\x01v" + b"\x1a\x0b\x0a\x01c\x12\x01h\x1a\x03mrw"
    assert (
        pb.ListAndWatchResponse(devices=[pb.Device(ID="d", health="Healthy")]).SerializeToString()
        == b"\x0a\x0c\x0a\x01d\x12\x07Healthy"
    )
    assert (
        pb.RegisterRequest(
            version="v1beta1",
            endpoint="e",
            resource_name="r/n",
            options=pb.DevicePluginOptions(get_preferred_allocation_available=True),
        ).SerializeToString()
        == b"\x0a\x07v1beta1\x12\x01e\x1a\x03r/n\x22\x02\x10\x01"
    )
