"""Master key verification patterns: what ``mkvps`` of a queue shows (Q-15, Q-16).

A key *name* determines all patterns, so machines that name the same key have equal patterns.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_CCA_DIGITS = {"AES": 16, "APKA": 16, "ASYM": 32}
_EP11_DIGITS = 64


def _pattern(name: str, register: str, digits: int) -> str:
    return "0x" + hashlib.sha256(f"{name}/{register}".encode()).hexdigest()[:digits]


@lru_cache(maxsize=4096)
def mkvps(mode: str, name: str) -> str:
    """Return the text of ``mkvps`` for a card mode (``cca``, ``ep11``) and a key name: CUR valid, NEW empty."""
    if mode == "ep11":
        return f"WK CUR: valid {_pattern(name, 'WK', _EP11_DIGITS)}\nWK NEW: empty -\n"
    lines = []
    for register, digits in _CCA_DIGITS.items():
        zero = "0x" + "0" * digits
        lines += [
            f"{register} NEW: empty {zero}",
            f"{register} CUR: valid {_pattern(name, register, digits)}",
            f"{register} OLD: valid {_pattern(name + ' old', register, digits)}",
        ]
    return "\n".join(lines) + "\n"


def unknown_mkvps(mode: str) -> str:
    """Return the text of ``mkvps`` when the queue does not answer."""
    if mode == "ep11":
        return "WK CUR: - -\nWK NEW: - -\n"
    return "".join(f"{register} {state}: - -\n" for register in _CCA_DIGITS for state in ("NEW", "CUR", "OLD"))
