"""Sets of ids: what people may write, what the kernel writes, and algebra."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap.errors import RefusedError
from vfio_ap.idset import IdSet

ids = st.frozensets(st.integers(0, 255))


@given(ids)
def test_text_is_read_back(numbers):
    assert IdSet.parse(str(IdSet.from_ids(numbers))) == IdSet.from_ids(numbers)


@given(ids)
def test_mask_is_read_back_and_bit_0_is_leftmost(numbers):
    mask = IdSet.from_ids(numbers).mask()
    assert len(mask) == 66
    assert {n for n in range(256) if int(mask[2 + n // 4], 16) & 8 >> n % 4} == numbers
    assert IdSet.from_mask(mask + "\n") == IdSet.from_ids(numbers)


@given(ids, ids)
def test_algebra_is_that_of_sets(a, b):
    x, y = IdSet.from_ids(a), IdSet.from_ids(b)
    assert (set(x | y), set(x & y), set(x - y), x <= y) == (a | b, a & b, a - b, a <= b)
    assert (len(x), bool(x), x.highest()) == (len(a), bool(a), max(a, default=-1))


def test_people_write_decimal_hexadecimal_and_ranges():
    assert list(IdSet.parse("5, 0xab,10-12")) == [5, 10, 11, 12, 171]
    assert str(IdSet.parse("0x04,5,7")) == "4-5,7"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("256", "IdOutOfRange"),
        ("08", "NotAnId"),
        ("00", "NotAnId"),
        ("0x100", "IdOutOfRange"),
        ("-1", "NotAnId"),
        ("5,,6", "NotAnId"),
        ("5,0x5", "DuplicateId"),
        ("1-5,4", "DuplicateId"),
        ("7-4", "NotAnId"),
        ("five", "NotAnId"),
        ("٥", "NotAnId"),
        ("1 2", "NotAnId"),
    ],
)
def test_anything_else_is_refused(text, reason):
    with pytest.raises(RefusedError) as caught:
        IdSet.parse(text)
    assert caught.value.refusal.reason == reason
    assert caught.value.refusal.message


@pytest.mark.parametrize("text", ["", "0x", "\n", "0x" + "f" * 63, "0x" + "f" * 65, "0x" + "g" * 64])
def test_a_mask_that_is_not_whole_is_refused(text):
    with pytest.raises(RefusedError):
        IdSet.from_mask(text)
