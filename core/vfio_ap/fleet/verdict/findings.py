"""What is found at queues, told once per reason and values however many queues it is true of."""

from __future__ import annotations

from collections.abc import Iterator

from vfio_ap.fleet.verdict.question import Said, say
from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.matrix import Apqn


class Findings:
    """Findings by reason and text, in the order in which they came; each names its first queue."""

    def __init__(self) -> None:
        self._found: dict[tuple[Reason, str], tuple[Apqn, int]] = {}

    def add(self, reason: Reason, queue: Apqn, text: str, count: int = 1) -> None:
        """Note that something is true of ``count`` queues, of which ``queue`` is the lowest."""
        first, before = self._found.get((reason, text), (queue, 0))
        self._found[reason, text] = min(first, queue), before + count

    def said(self) -> Iterator[Said]:
        """Return them."""
        for (reason, text), (queue, count) in self._found.items():
            more = f" (and {count - 1} more {'queue' if count == 2 else 'queues'})" if count > 1 else ""
            yield say(reason, f"queue {queue}", text + more)
