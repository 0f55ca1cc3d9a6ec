"""The VMI's annotation, and the hand-written wire format against the real library."""

import json

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfio_ap_hook import protobuf
from vfio_ap_hook.callbacks import INFO, VERSIONS, Callbacks
from vfio_ap_hook.errors import Code, RefusedError
from vfio_ap_hook.vmi import uuid_of

from .support import UUID, vmi


def test_the_annotation():
    assert uuid_of(vmi()) == UUID


@pytest.mark.parametrize(
    "uuid",
    [
        "",
        "payments",
        UUID.upper(),
        f"{{{UUID}}}",
        UUID.replace("-", ""),
        f"{UUID}\n",
        f"{UUID}'/>",
        UUID[:-1] + "٣",
    ],
)
def test_no_uuid(uuid):
    with pytest.raises(RefusedError, match=r"annotation ap\.s390x\.io/uuid is not a UUID"):
        uuid_of(vmi(**{"ap.s390x.io/uuid": uuid}))


@pytest.mark.parametrize(
    "document",
    [{}, {"metadata": {}}, {"metadata": None}, {"metadata": {"annotations": {"x": UUID}}}, [], "x", None],
)
def test_no_annotation(document):
    with pytest.raises(RefusedError, match=r"has no annotation ap\.s390x\.io/uuid") as refused:
        uuid_of(json.dumps(document).encode())
    assert refused.value.code is Code.FAILED_PRECONDITION


def test_an_annotation_of_another_type():
    with pytest.raises(RefusedError, match="not a UUID"):
        uuid_of(json.dumps({"metadata": {"annotations": {"ap.s390x.io/uuid": [UUID]}}}).encode())


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"\xff", b"[" * 200_000, b"9" * 5000, vmi()[:-1], vmi().decode().encode("utf-16")]
)
def test_no_json(junk):
    with pytest.raises(RefusedError, match="not JSON") as refused:
        uuid_of(junk)
    assert refused.value.code is Code.INVALID_ARGUMENT


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_what_the_library_writes_is_read(protocol, source, machine, data):
    pb = protocol.v1alpha3.PreCloudInitIsoParams(cloudInitNoCloudSource=source, vmi=machine, cloudInitData=data)
    fields = protobuf.decode(pb.SerializeToString())
    assert [fields.get(number, b"") for number in (1, 2, 3)] == [source, machine, data]


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=12), st.binary(max_size=5).map(lambda junk: b"\x0a\x03xml\x12\x01v" + junk)))
@example(b"\x8a\x80\x80\x80\x80\x00\x00")  # field 1, in a tag of six bytes
@example(b"\x82\x80\x80\x80\x10\x00")  # a field number of 30 bits
@example(b"\x18" + b"\xff" * 9 + b"\x01")  # the largest varint
@example(b"\x18" + b"\xff" * 10 + b"\x01")
def test_what_is_read_is_what_the_library_reads(protocol, wire):
    pb = protocol.v1alpha3.OnDefineDomainParams()
    try:
        fields = protobuf.decode(wire)
    except RefusedError as refusal:
        assert refusal.code is Code.INVALID_ARGUMENT
        has_groups = any(byte & 7 in (3, 4) for byte in wire)
        if not has_groups:
            with pytest.raises(DecodeError):
                pb.ParseFromString(wire)
        return
    pb.ParseFromString(wire)
    assert (pb.domainXML, pb.vmi) == (fields.get(1, b""), fields.get(2, b""))


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_truncated_message(protocol, cut):
    wire = protocol.v1alpha3.OnDefineDomainParams(domainXML=b"<domain/>", vmi=b"{}").SerializeToString()
    if cut == 4:
        return  # between the fields: a whole message
    with pytest.raises(RefusedError, match="no protobuf message"):
        protobuf.decode(wire[:-cut])


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 3_000_000])
def test_what_is_written_the_library_reads(protocol, length):
    body = b"x" * length
    read = protocol.v1alpha3.OnDefineDomainResult.FromString(protobuf.encode(1, body))
    assert read.domainXML == body


@pytest.mark.parametrize("versions", [VERSIONS, ["v1alpha1"], ["v1alpha2"], ["v1alpha3"]])
def test_info(protocol, versions):
    info = protocol.info.InfoResult.FromString(Callbacks(versions).call(INFO, b""))
    assert (info.name, list(info.versions)) == ("vfio-ap", list(versions))
    points = ["OnDefineDomain", "Shutdown"] if "v1alpha3" in versions else ["OnDefineDomain"]
    assert [(point.name, point.priority) for point in info.hookPoints] == [(name, 0) for name in points]
