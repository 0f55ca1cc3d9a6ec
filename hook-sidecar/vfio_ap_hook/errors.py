"""How the sidecar says no: one sentence and the gRPC status it travels under."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """The gRPC status codes in use (the gRPC project's doc/statuscodes.md)."""

    OK = 0
    INVALID_ARGUMENT = 3
    """The request itself is malformed."""
    RESOURCE_EXHAUSTED = 8
    """The request is too large."""
    FAILED_PRECONDITION = 9
    """The request is well formed, and this VM must not start."""
    UNIMPLEMENTED = 12
    INTERNAL = 13


class RefusedError(Exception):
    """Nothing was changed; the text is one sentence without a full stop, for virt-launcher's log and an Event."""

    def __init__(self, sentence: str, code: Code = Code.FAILED_PRECONDITION) -> None:
        super().__init__(sentence)
        self.code = code
