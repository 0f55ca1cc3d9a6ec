"""Progress of long steps for people and logs: whole lines with the elapsed time, no control characters."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEARTBEAT = 15.0
"""Seconds between two lines while a step runs."""


def to_stderr(line: str) -> None:
    """Write one line to standard error at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return seconds as people write them: ``9s``, ``1m15s``."""
    whole = int(seconds)
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class Progress:
    """Says what goes on, one line at a time, through ``say``; ``heartbeat`` is in seconds."""

    def __init__(self, say: Callable[[str], None] = to_stderr, heartbeat: float = HEARTBEAT) -> None:
        self.say = say
        self._heartbeat = heartbeat

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say that a step begins, every heartbeat that it goes on, and how it ended."""
        began = time.monotonic()
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._heartbeat):
                self.say(f"{what} … {duration(time.monotonic() - began)}")

        self.say(f"{what} …")
        thread = threading.Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self.say(f"{what}: gave up after {duration(time.monotonic() - began)}")
            raise
        else:
            self.say(f"{what}: done in {duration(time.monotonic() - began)}")
        finally:
            over.set()
            thread.join()
