"""What the demo shows: a line per step with its time, tables and grids between them."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

_MARGIN = 11
"""Columns of the time in front of each line."""
_NARROWEST = 80


class Stage:
    """Prints to standard output, a line when a step begins and one when it is done."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._width = max(_NARROWEST, shutil.get_terminal_size((120, 24)).columns) - _MARGIN

    def begin(self) -> None:
        """Count the time from now."""
        self._start = time.monotonic()

    def say(self, text: str, *, hanging: int = 0) -> None:
        """Print a line with the time since the beginning; the rest of a long one is indented by ``hanging``."""
        lines = textwrap.wrap(
            text,
            self._width,
            subsequent_indent=" " * hanging,
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print(f"[{time.monotonic() - self._start:6.1f} s] {lines[0] if lines else ''}", flush=True)
        self.show("\n".join(lines[1:]))

    def headline(self, text: str) -> None:
        """Print what the next part is about."""
        print(f"\n== {text}", flush=True)

    def show(self, text: str) -> None:
        """Print a block, indented."""
        for line in text.rstrip("\n").splitlines():
            print(f"{' ' * _MARGIN}{line}".rstrip(), flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what begins, and how long it took once it is done."""
        self.say(f"{what} ...")
        began = time.monotonic()
        yield
        self.say(f"  done in {time.monotonic() - began:.1f} s")

    def fail(self, text: str) -> None:
        """Print why the demo failed."""
        sys.stdout.flush()
        print(f"demo: failed: {text}", file=sys.stderr, flush=True)
