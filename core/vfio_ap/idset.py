"""Sets of adapter or domain ids, 0 to 255, as one integer.

An ``IdSet`` stands for what people write as ``4,6,0x40-0x43`` and the kernel writes as a 256-bit mask whose
bit 0 is the leftmost (kernel-ap.md S-2). Set algebra costs a machine instruction or two, and a set of any size
takes a few dozen bytes, which is what lets the operator hold a thousand nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vfio_ap.errors import Refusal, RefusedError

MAX_ID = 255
"""Largest adapter or domain id of the architecture (kernel-ap.md N-1)."""
_ALL = (1 << (MAX_ID + 1)) - 1
_TERM = re.compile(r"(0x[0-9a-f]+|[0-9]+)(?:-(0x[0-9a-f]+|[0-9]+))?", re.IGNORECASE)
_MASK = re.compile(r"0x[0-9a-f]{64}\n?")


@dataclass(frozen=True, slots=True)
class IdSet:
    """A set of ids; bit n of ``bits`` is id n."""

    bits: int = 0

    @classmethod
    def of(cls, *ids: int) -> IdSet:
        """Return the set of these ids. Raises RefusedError for an id outside 0 to 255."""
        return cls.from_ids(ids)

    @classmethod
    def from_ids(cls, ids: Iterable[int]) -> IdSet:
        """Return the set of these ids. Raises RefusedError for an id outside 0 to 255."""
        bits = 0
        for number in ids:
            bits |= 1 << _in_range(number, str(number))
        return cls(bits)

    @classmethod
    def every(cls) -> IdSet:
        """Return the set of all 256 ids."""
        return cls(_ALL)

    @classmethod
    def parse(cls, text: str) -> IdSet:
        """Return the set written as ``5``, ``0xab``, ``4,6,0x40-0x43``; the empty text is the empty set.

        Raises RefusedError for an id above 255, a leading zero (octal to the kernel, decimal to people:
        kernel-ap.md S-5), an id that is named twice, a range that runs backwards, or anything else.
        """
        bits = 0
        if not text.strip():
            return cls()
        for part in text.split(","):
            span = parse_span(part.strip())
            if bits & span.bits:
                twice = str(cls(bits & span.bits))
                raise RefusedError(Refusal("DuplicateId", text, f"{twice} is named twice", "name each id once"))
            bits |= span.bits
        return cls(bits)

    @classmethod
    def from_mask(cls, text: str) -> IdSet:
        """Return the set of a mask as the kernel prints it: ``0x``, 64 hex digits, maybe a newline.

        Raises RefusedError for any other text, a truncated one above all.
        """
        if not _MASK.fullmatch(text):
            raise RefusedError(Refusal("NotAMask", repr(text[:80]), "is not 0x and 64 hexadecimal digits"))
        return cls(int(f"{int(text, 16):0256b}"[::-1], 2))

    def mask(self) -> str:
        """Return the kernel's form: ``0x`` and 64 hex digits, id 0 leftmost."""
        return f"0x{int(f'{self.bits:0256b}'[::-1], 2):064x}"

    def spans(self) -> list[tuple[int, int]]:
        """Return the runs of consecutive ids, first and last of each."""
        found: list[tuple[int, int]] = []
        for number in self:
            if found and found[-1][1] == number - 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
        return found

    def __str__(self) -> str:
        """Return the shortest text that ``parse`` reads back: decimal, ranges for runs of two and more."""
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.spans())

    def __iter__(self) -> Iterator[int]:
        """Return the ids in ascending order."""
        bits = self.bits
        while bits:
            lowest = bits & -bits
            yield lowest.bit_length() - 1
            bits ^= lowest

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __contains__(self, number: int) -> bool:
        return bool(self.bits >> number & 1)

    def __or__(self, other: IdSet) -> IdSet:
        return IdSet(self.bits | other.bits)

    def __and__(self, other: IdSet) -> IdSet:
        return IdSet(self.bits & other.bits)

    def __sub__(self, other: IdSet) -> IdSet:
        return IdSet(self.bits & ~other.bits)

    def __le__(self, other: IdSet) -> bool:
        return not self.bits & ~other.bits

    def highest(self) -> int:
        """Return the largest id, -1 for the empty set."""
        return self.bits.bit_length() - 1


def parse_span(text: str) -> IdSet:
    """Return the ids of one id or range, ``5``, ``0xab`` or ``4-7``. Raises RefusedError."""
    match = _TERM.fullmatch(text)
    if match is None:
        remedy = "write decimal (5), hexadecimal (0x05) or a range (4-7)"
        raise RefusedError(Refusal("NotAnId", repr(text), "is not an id", remedy))
    first = parse_id(match[1])
    last = first if match[2] is None else parse_id(match[2])
    if last < first:
        raise RefusedError(Refusal("NotAnId", repr(text), "runs backwards", f"write {last}-{first}"))
    return IdSet((1 << last + 1) - (1 << first))


def parse_id(text: str) -> int:
    """Return one id from decimal or ``0x`` hexadecimal text. Raises RefusedError."""
    if len(text) > 1 and text[0] == "0" and text[1] not in "xX":
        remedy = f"write {text.lstrip('0') or '0'}, or hexadecimal with 0x"
        raise RefusedError(
            Refusal("NotAnId", repr(text), "has a leading zero, which the kernel reads as octal", remedy)
        )
    return _in_range(int(text, 16 if text[:2] in ("0x", "0X") else 10), text)


def _in_range(number: int, text: str) -> int:
    if not 0 <= number <= MAX_ID:
        raise RefusedError(Refusal("IdOutOfRange", text, f"is outside 0 to {MAX_ID}"))
    return number
