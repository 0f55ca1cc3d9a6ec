"""Kubernetes quantities of memory as bytes."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([0-9.]+(?:[eE][0-9]+)?)([KMGTPE]i|[kMGTPE]|m)?")
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)}
_UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_UNITS |= {letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", 2)}


def bytes_of(quantity: str | int) -> int:
    """Return the bytes of a quantity. Raises ValueError.

    >>> bytes_of("128Mi"), bytes_of("1k"), bytes_of("1.5Gi")
    (134217728, 1000, 1610612736)
    """
    match = _FORM.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"not a quantity: {quantity!r}")
    return int(Decimal(match[1]) * _UNITS[match[2] or ""])
