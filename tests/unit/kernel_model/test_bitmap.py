"""The grammar of numbers and masks, against plain statements of it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_sim.kernel.bitmap import (
    ALL,
    edit,
    has,
    ids_of,
    kstrtobool,
    kstrtoul,
    mask_of,
    parse_absolute,
    render,
    scan_decimal,
    scan_integer,
)
from vfio_ap_sim.kernel.errors import SysfsError

masks = st.integers(0, ALL)
ids = st.integers(0, 255)


@given(masks)
def test_render_and_parse_are_inverse(mask: int) -> None:
    assert parse_absolute(render(mask) + "\n") == mask
    assert mask_of(ids_of(mask)) == mask


@given(ids)
def test_id_zero_is_leftmost(number: int) -> None:
    assert int(render(1 << number), 16) == 1 << 255 - number


@given(masks, st.lists(st.tuples(st.sampled_from("+-"), ids, ids)))
def test_edits_apply_in_order(mask: int, steps: list[tuple[str, int, int]]) -> None:
    text, expected = "", set(ids_of(mask))
    for sign, one, other in steps:
        low, high = sorted((one, other))
        text += f"{sign}{low:#x}-{high}," if low != high else f"{sign}{low}\n"
        span = set(range(low, high + 1))
        expected = expected | span if sign == "+" else expected - span
    if steps:
        assert set(ids_of(edit(mask, text))) == expected


@given(masks, st.text(alphabet="+-,0123456789abxX \n", max_size=12))
def test_any_text_is_a_mask_or_einval(mask: int, text: str) -> None:
    try:
        assert 0 <= edit(mask, text) <= ALL
    except SysfsError as error:
        assert error.errno == errno.EINVAL


@given(st.integers(0, 2**64 - 1))
def test_kstrtoul_reads_three_bases(number: int) -> None:
    assert kstrtoul(str(number)) == kstrtoul(f"{number:#x}\n") == number
    assert kstrtoul(f"+0{number:o}") == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", errno.EINVAL),
        ("08", errno.EINVAL),
        ("1\n\n", errno.EINVAL),
        ("0x", errno.EINVAL),
        (f"{2**64}x", errno.ERANGE),
        ("-1", errno.EINVAL),
        ("++1", errno.EINVAL),
    ],
)
def test_kstrtoul_refuses(text: str, expected: int) -> None:
    with pytest.raises(SysfsError) as refused:
        kstrtoul(text)
    assert refused.value.errno == expected


def test_relative_numbers_wrap_silently() -> None:
    assert not has(edit(ALL, f"-{2**64 + 3}"), 3)


def test_scanf_ignores_what_follows() -> None:
    assert scan_decimal(" 7 x") == 7
    assert scan_decimal("0x10") == 0
    assert scan_integer("0x10") == 16
    assert scan_integer("-010") == -8
    with pytest.raises(SysfsError):
        scan_decimal("x")
    with pytest.raises(SysfsError):
        scan_integer("")


def test_kstrtobool() -> None:
    assert [kstrtobool(text) for text in ("1", "y", "on\n", "T")] == [True] * 4
    assert [kstrtobool(text) for text in ("0", "n", "off", "F")] == [False] * 4
    for bad in ("", "\n", "2", "o", "x"):
        with pytest.raises(SysfsError):
            kstrtobool(bad)
