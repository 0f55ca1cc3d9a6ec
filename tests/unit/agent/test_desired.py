"""From text to a wish: what is refused by itself, and what closes everything."""

import pytest

from vfio_ap.errors import RefusedError
from vfio_ap_agent.desired import load, parse

from .support import A, B, matrix

GOOD = {"uuid": A, "matrix": "payments", "adapters": "5-6", "domains": "4,0xab", "granted": True}


def test_a_good_spec():
    desired = parse({"mdevs": [GOOD], "hostReserved": [{"adapters": "5", "domains": "6"}]})
    (mdev,) = desired.wish.mdevs
    assert (mdev.uuid, mdev.name, mdev.matrix, mdev.adopt) == (A, "payments", matrix("5-6", "4,171"), False)
    assert desired.wish.reserved == (matrix("5", "6"),)
    assert desired.granted == {A: "payments"}
    assert desired.problems == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"adapters": "300"},
        {"adapters": ""},
        {"domains": "4,4"},
        {"domains": 4},
        {"color": "blue"},
        {"matrix": None},
    ],
)
def test_a_bad_device_is_refused_by_itself(bad):
    desired = parse({"mdevs": [{**GOOD, **bad}, {**GOOD, "uuid": B}]})
    assert [mdev.uuid for mdev in desired.wish.mdevs] == [B]
    assert desired.wish.refused[A].reason == "SpecInvalid"
    assert desired.wish.incomplete is None
    assert desired.granted == {B: "payments"}


@pytest.mark.parametrize("entry", ["text", None, {**GOOD, "uuid": "no uuid"}, {"matrix": "payments"}])
def test_a_device_whose_uuid_cannot_be_read_keeps_every_device(entry):
    desired = parse({"mdevs": [entry, {**GOOD, "uuid": B}]})
    assert desired.wish.incomplete is not None
    assert [mdev.uuid for mdev in desired.wish.mdevs] == [B]


def test_a_device_that_is_named_twice_is_made_neither_way():
    desired = parse({"mdevs": [GOOD, {**GOOD, "domains": "6"}]})
    assert desired.wish.mdevs == ()
    assert "named twice" in desired.wish.refused[A].message
    assert desired.granted == {}


@pytest.mark.parametrize("reserved", ["x", [{"adapters": "5"}], [{"adapters": "?", "domains": "4"}]])
def test_reserved_queues_that_cannot_be_read_stop_everything(reserved):
    desired = parse({"mdevs": [GOOD], "hostReserved": reserved})
    assert set(desired.wish.refused) == {A}
    assert desired.wish.incomplete is not None


def test_a_whole_apnode_may_be_given(tmp_path):
    (tmp_path / "node.yaml").write_text(
        f"spec: {{mdevs: [{{uuid: {A}, matrix: m, adapters: '5', domains: '4'}}]}}"
    )
    assert [mdev.uuid for mdev in load(tmp_path / "node.yaml").wish.mdevs] == [A]
    with pytest.raises(RefusedError):
        load(tmp_path / "none.yaml")
