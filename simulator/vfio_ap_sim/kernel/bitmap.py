"""The kernel's number and bitmap grammar, and its printed form of a 256-bit mask.

Inside the model a mask is a Python int in which id *n* is bit ``1 << n``. Printed, id 0 is the leftmost bit (S-2).
Every function here is pure.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator

from vfio_ap_sim.kernel.errors import SysfsError

BITS = 256
"""Adapters and domains: AP_DEVICES and AP_DOMAINS are both 256 (N-1)."""
ALL = (1 << BITS) - 1
_ULONG = 1 << 64
_RADIX_DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdefABCDEF"}
_HEX_PREFIX = re.compile(r"(?:0x)?x?")
_DECIMAL = re.compile(r"[ \t\n\r\f\v]*([+-]?[0-9]+)")
_ANY_BASE = re.compile(r"[ \t\n\r\f\v]*([+-]?)([0-9][0-9a-fA-FxX]*)")


def mask_of(ids: Iterable[int]) -> int:
    """Return the mask with exactly these ids set."""
    mask = 0
    for number in ids:
        mask |= 1 << number
    return mask


def ids_of(mask: int) -> Iterator[int]:
    """Yield the ids set in a mask, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def has(mask: int, number: int) -> bool:
    """Whether an id is set in a mask."""
    return bool(mask >> number & 1)


def render(mask: int) -> str:
    """Return ``0x`` and 64 hex digits, id 0 leftmost, without a newline (S-2)."""
    return f"0x{int(format(mask, '0256b')[::-1], 2):064x}"


def parse_absolute(text: str) -> int:
    """Return the mask of hex digits filled in from the left (K-5, ``ap_bus.c:ap_hex2bitmap``).

    Raises SysfsError EINVAL for more than 64 digits or anything else after them than one newline.
    """
    prefix = _HEX_PREFIX.match(text)
    assert prefix is not None
    digits = text[prefix.end() :]
    digits = digits.removesuffix("\n") if digits.count("\n") == 1 else digits
    if len(digits) > BITS // 4 or not all(digit in _RADIX_DIGITS[16] for digit in digits):
        raise SysfsError(errno.EINVAL)
    if not digits:
        return 0
    return int(format(int(digits, 16), f"0{4 * len(digits)}b")[::-1], 2)


def edit(mask: int, text: str) -> int:
    """Return a mask after a write to apmask or aqmask (K-3, ``ap_bus.c:ap_parse_bitmap_str``).

    A text that begins with a sign edits ``mask``; any other replaces all of it. Raises SysfsError EINVAL.
    """
    return _modify(mask, text) if text[:1] in ("+", "-") else parse_absolute(text)


def _modify(mask: int, text: str) -> int:
    """Apply ``(+|-)N[-M]`` edits in order; commas and newlines may stand between them (K-4, ``modify_bitmap``)."""
    at = 0
    while at < len(text):
        sign = text[at]
        first, at = _integer(text, at + 1)
        last = first
        if sign not in "+-" or first >= BITS:
            raise SysfsError(errno.EINVAL)
        if text[at : at + 1] == "-":
            last, at = _integer(text, at + 1)
            if last < first or last >= BITS:
                raise SysfsError(errno.EINVAL)
        span = (1 << last + 1) - (1 << first)
        mask = mask | span if sign == "+" else mask & ~span
        while text[at : at + 1] in (",", "\n"):
            at += 1
    return mask


def _integer(text: str, at: int) -> tuple[int, int]:
    """Return the number at a position and where it ends (``simple_strtoul`` base 0, which wraps silently)."""
    digits, radix, end = _digits(text, at)
    if not digits:
        raise SysfsError(errno.EINVAL)
    return int(digits, radix) % _ULONG, end


def _digits(text: str, at: int) -> tuple[str, int, int]:
    """Return digits, radix and end of the number at a position (``lib/kstrtox.c:_parse_integer_fixup_radix``)."""
    radix = 10
    if text[at : at + 1] == "0":
        radix = 8
        if text[at + 1 : at + 2] in ("x", "X") and text[at + 2 : at + 3] in tuple(_RADIX_DIGITS[16]):
            radix, at = 16, at + 2
    end = at
    while end < len(text) and text[end] in _RADIX_DIGITS[radix]:
        end += 1
    return text[at:end], radix, end


def kstrtoul(text: str) -> int:
    """Return a number as ``kstrtoul(text, 0)`` does (S-5). Raises SysfsError EINVAL or ERANGE, overflow first."""
    digits, radix, end = _digits(text, 1 if text.startswith("+") else 0)
    if not digits:
        raise SysfsError(errno.EINVAL)
    number = int(digits, radix)
    if number >= _ULONG:
        raise SysfsError(errno.ERANGE)
    if text[end:] not in ("", "\n"):
        raise SysfsError(errno.EINVAL)
    return number


def scan_decimal(text: str) -> int:
    """Return what ``sscanf("%d")`` reads: leading blanks are skipped, what follows is ignored. Raises EINVAL."""
    found = _DECIMAL.match(text)
    if found is None:
        raise SysfsError(errno.EINVAL)
    return int(found[1])


def scan_integer(text: str) -> int:
    """Return what ``sscanf("%i")`` reads: as scan_decimal, in base 10, 0x or 0. Raises EINVAL."""
    found = _ANY_BASE.match(text)
    if found is None:
        raise SysfsError(errno.EINVAL)
    digits, radix, _ = _digits(found[2], 0)
    number = int(digits, radix)
    return -number if found[1] == "-" else number


def kstrtobool(text: str) -> bool:
    """Return a truth value as ``kstrtobool`` does. Raises SysfsError EINVAL."""
    first, second = text[:1].lower(), text[1:2].lower()
    if first in ("y", "t", "1") and first:
        return True
    if first in ("n", "f", "0") and first:
        return False
    if first == "o" and second in ("n", "f") and second:
        return second == "n"
    raise SysfsError(errno.EINVAL)
