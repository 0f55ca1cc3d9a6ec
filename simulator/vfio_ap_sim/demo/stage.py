"""What the demo shows: a line per step with its time, tables and grids between them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stage:
    """Prints to standard output, a line when a step begins and one when it is done."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        """Print a block, indented."""
        for line in text.rstrip("\n").splitlines():
            print(f"            {line}".rstrip(), flush=True)

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
