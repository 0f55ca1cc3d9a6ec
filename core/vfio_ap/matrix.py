"""Queues and matrices: what a mediated device holds and where two of them meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.idset import IdSet

_APQN = re.compile(r"([0-9a-f]{2})\.([0-9a-f]{4})")
_CONFIG = re.compile(r"(0x[0-9a-f]{64}),(0x[0-9a-f]{64}),(0x[0-9a-f]{64})\n?")


@dataclass(frozen=True, slots=True, order=True)
class Apqn:
    """One queue: an adapter and a usage domain."""

    adapter: int
    domain: int

    def __str__(self) -> str:
        """Return the kernel's name of the queue, ``05.00ab``."""
        return f"{self.adapter:02x}.{self.domain:04x}"

    @classmethod
    def parse(cls, text: str) -> Apqn:
        """Return the queue of a name such as ``05.00ab``. Raises RefusedError."""
        match = _APQN.fullmatch(text)
        if match is None or int(match[2], 16) > 255:
            raise RefusedError(Refusal("NotAQueue", repr(text[:80]), "is not a queue name such as 05.00ab"))
        return cls(int(match[1], 16), int(match[2], 16))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Adapters x domains of one mdev, and the control domains beside them."""

    adapters: IdSet = IdSet()
    domains: IdSet = IdSet()
    control_domains: IdSet = IdSet()

    def __len__(self) -> int:
        """Return the number of queues."""
        return len(self.adapters) * len(self.domains)

    def __bool__(self) -> bool:
        """Tell whether anything is assigned: adapters without domains are no queues, and are not nothing (V-9)."""
        return bool(self.adapters or self.domains or self.control_domains)

    def __iter__(self) -> Iterator[Apqn]:
        """Return the queues, adapter by adapter, ascending: the order of the kernel's files (V-9)."""
        for adapter in self.adapters:
            for domain in self.domains:
                yield Apqn(adapter, domain)

    def __str__(self) -> str:
        """Return ``adapters 5-6 x domains 4,171``."""
        return f"adapters {self.adapters} x domains {self.domains}"

    def contains(self, apqn: Apqn) -> bool:
        """Tell whether the queue is in the matrix."""
        return apqn.adapter in self.adapters and apqn.domain in self.domains

    def overlap(self, other: Matrix) -> Matrix:
        """Return the queues that both hold, as a matrix; no queues where either side is empty.

        Control domains do not conflict (kernel-ap.md V-18) and are left out.
        """
        adapters, domains = self.adapters & other.adapters, self.domains & other.domains
        return Matrix(adapters, domains) if adapters and domains else Matrix()

    def first(self) -> Apqn:
        """Return the lowest queue. Raises ValueError on a matrix without queues."""
        for apqn in self:
            return apqn
        raise ValueError("a matrix without queues has no first one")

    def ap_config(self) -> str:
        """Return the text of the mdev's ``ap_config`` file, 200 characters without a newline (V-13)."""
        return ",".join(ids.mask() for ids in (self.adapters, self.domains, self.control_domains))

    @classmethod
    def parse(cls, adapters: str, domains: str, control_domains: str = "") -> Matrix:
        """Return the matrix of id lists such as ``5-6`` and ``4,0xab``. Raises RefusedError."""
        return cls(IdSet.parse(adapters), IdSet.parse(domains), IdSet.parse(control_domains))

    @classmethod
    def from_ap_config(cls, text: str) -> Matrix:
        """Return the matrix of an ``ap_config`` file. Raises RefusedError for any text but three masks."""
        match = _CONFIG.fullmatch(text)
        if match is None:
            raise RefusedError(Refusal("NotAMatrix", repr(text[:80]), "is not three masks"))
        return cls(*(IdSet.from_mask(mask) for mask in match.groups()))


def parse_matrix_file(text: str) -> tuple[IdSet, IdSet]:
    """Return adapters and domains of a ``matrix`` or ``guest_matrix`` file (V-9, V-10).

    Lines are ``05.0004``, ``05.`` where there are no domains or ``.0004`` where there are no adapters.
    Raises RefusedError for another line, for a text that is not a full product, and for a truncated one:
    from 512 queues on the kernel prints 4095 bytes without a last newline (V-12).
    """
    if text and not text.endswith("\n"):
        raise RefusedError(Refusal("TruncatedMatrix", f"{len(text)} bytes", "end without a newline"))
    adapters = domains = 0
    seen: set[str] = set()
    for line in text.splitlines():
        adapter, dot, domain = line.partition(".")
        if not dot or not re.fullmatch(r"([0-9a-f]{2})?\.(00[0-9a-f]{2})?", line) or line in seen:
            raise RefusedError(Refusal("NotAMatrix", repr(line[:80]), "is not a line of a matrix"))
        seen.add(line)
        adapters |= 1 << int(adapter, 16) if adapter else 0
        domains |= 1 << int(domain, 16) if domain else 0
    a, d = IdSet(adapters), IdSet(domains)
    if len(seen) != (len(a) * len(d) if a and d else len(a) + len(d)):
        raise RefusedError(
            Refusal("NotAMatrix", f"{len(seen)} lines", f"are not all of {len(a)} adapters x {len(d)} domains")
        )
    return a, d
