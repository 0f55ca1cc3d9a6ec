"""What the kernel says of devices while they are moved, kept so that a move that fails has its reason told.

The log of the target's kernel says which queue differs in what; KubeVirt knows an errno at most (kernel-ap.md
4.2). Lines are of the latest move of a device: heard while it is frozen, kept until it is frozen again. What they
mean is for others to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vfio_ap_api.apnode import LOGGED_DEVICES, LOGGED_LENGTH, LOGGED_LINES


class DeviceLog:
    """Kernel log lines by device. Bounded; the end of the process loses them."""

    def __init__(self) -> None:
        self._frozen: frozenset[str] = frozenset()
        self._lines: dict[str, list[str]] = {}

    @property
    def lines(self) -> Mapping[str, list[str]]:
        """The lines of each device of which the kernel said something, that of the latest move last."""
        return self._lines

    def freeze(self, uuids: Collection[str]) -> None:
        """Take in which devices are frozen now. One that was not before begins a move: what was said is old."""
        for uuid in uuids:
            if uuid not in self._frozen:
                self._lines.pop(uuid, None)
        self._frozen = frozenset(uuids)

    def hear(self, text: str) -> bool:
        """Keep a line of the kernel log if it is of a frozen device; return whether it is and was not known."""
        uuid = next((uuid for uuid in self._frozen if uuid in text), None)
        if uuid is None:
            return False
        lines = self._lines.setdefault(uuid, [])
        line = text[:LOGGED_LENGTH]
        # The first lines say most: of each queue that was refused, which one and why.
        if line in lines or len(lines) == LOGGED_LINES:
            return False
        lines.append(line)
        while len(self._lines) > LOGGED_DEVICES:
            self._lines.pop(next(iter(self._lines)))
        return True
