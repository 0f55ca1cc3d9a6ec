"""Master key verification patterns as the queue attribute ``mkvps`` shows them (Q-15, Q-16)."""

from __future__ import annotations

import re

from vfio_ap.errors import Refusal, RefusedError

_LINE = re.compile(
    r"((?:AES|APKA|ASYM) (?:NEW|CUR|OLD)|WK (?:CUR|NEW)): "
    r"(?:(state )?(-|[a-z]+) (-|0x[0-9a-f]{16}|0x[0-9a-f]{32}|0x[0-9a-f]{64}))"
)


def parse_mkvps(text: str) -> dict[str, str]:
    """Return, by register, the pattern, or the state where the register holds no key.

    ``AES CUR: state valid 0x12..`` gives ``0x12..``; ``partial``, ``uncommitted`` and ``invalid`` with a pattern
    keep the word before it; a register that the card did not report (``- -``) is left out. Raises RefusedError
    for any other text.
    """
    patterns: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise RefusedError(Refusal("NotKeys", repr(line[:80]), "is not a line of master key patterns"))
        register, _, state, value = match.groups()
        if state == "-":
            continue
        if value == "-" or state in ("empty", "invalid"):
            patterns[register] = state
        elif state in ("valid", "full", "committed"):
            patterns[register] = value
        else:
            patterns[register] = f"{state} {value}"
    return patterns
