"""Tells a program from what only has its name: a file that is empty, cut short or something else.

It looks at the file's form and does not run it; where a program comes from is not its business.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_ELF = b"\x7fELF"
_HEADER = 64
"""Bytes of Elf64_Ehdr (elf(5)); all machines that Kubernetes is released for have 64 bits."""


def flaw(path: Path) -> str:
    """Return what is wrong with a file that should be a program, the empty text when nothing is."""
    if not path.is_file():
        return "is not there"
    if not os.access(path, os.X_OK):
        return "may not be run"
    try:
        return _flaw_of_form(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _flaw_of_form(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEADER)
        if head.startswith(b"#!"):
            return ""
        if not head.startswith(_ELF):
            return "is no program"
        if len(head) < _HEADER:
            return "is cut short"
        order = "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(f"{order}Q", head, 32)  # e_phoff
        size, count = struct.unpack_from(f"{order}HH", head, 54)  # e_phentsize, e_phnum
        file.seek(table)
        entries = file.read(size * count)
    end = table + size * count
    for at in range(0, len(entries) - 39, size or _HEADER):
        (offset,) = struct.unpack_from(f"{order}Q", entries, at + 8)  # p_offset
        (length,) = struct.unpack_from(f"{order}Q", entries, at + 32)  # p_filesz
        end = max(end, offset + length)
    return "" if path.stat().st_size >= end else "is cut short"
