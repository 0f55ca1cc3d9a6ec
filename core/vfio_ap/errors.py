"""The one form in which the product says no.

A refusal is written once, where it is decided, and shown the same in a status, an Event and the CLI.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done, of what, and what to do about it."""

    reason: str
    """Stable CamelCase word, usable as a condition's reason."""
    subject: str
    """What it is about: a queue ``05.00ab``, a matrix, a node, a field."""
    message: str
    """One sentence without a full stop that names both values where two differ."""
    remedy: str = ""
    """What the reader can do, one sentence without a full stop; empty when there is nothing to do."""

    def __str__(self) -> str:
        """Return the sentence for people: subject, message and remedy."""
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


class RefusedError(Exception):
    """Raised where a refusal must end the work at hand; carries it as ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
