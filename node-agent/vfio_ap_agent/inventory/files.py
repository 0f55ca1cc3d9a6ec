"""Results of read batches by path, and the two ways in which a file may be missing.

A file that a kernel may not have gives ``None``. A file that must be there and is not means that the host changed
while it was read, and the reading begins anew (``Changed``). Anything else is told as what it is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host import failures as hosterrors
from vfio_ap.host.ops import Data, Failed, HostOps, Link, List, Names, Op, Read, Result, Target

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ESRCH)
_BASE_DEADLINE, _PER_OP = 10.0, 0.002
_BATCH = 1024
"""Operations at a time, which bounds the memory that a reading takes at its peak."""


class Changed(Exception):
    """The host changed while it was read."""


class Files:
    """What was read, by path."""

    def __init__(self, host: HostOps) -> None:
        self._host = host
        self._results: dict[Op, Result] = {}
        self._same: dict[Result, Result] = {}

    async def fetch(self, ops: Iterable[Op]) -> None:
        """Carry out what has not been read yet. Raises as ``HostOps.run`` does."""
        missing = [op for op in dict.fromkeys(ops) if op not in self._results]
        for batch in (missing[at : at + _BATCH] for at in range(0, len(missing), _BATCH)):
            results = await self._host.run(batch, deadline=_BASE_DEADLINE + _PER_OP * len(batch))
            # Thousands of queues say the same few things: each is kept once.
            same = self._same
            self._results.update((op, same.setdefault(r, r)) for op, r in zip(batch, results, strict=True))

    def text(self, path: str) -> str | None:
        """Return a file's text, None when there is no such file. Raises RefusedError for any other failure."""
        match self._results[Read(path)]:
            case Data(content):
                return content.decode("latin-1")
            case Failed(number) if number in _GONE:
                return None
            case other:
                raise _unreadable(path, other)

    def needed(self, path: str) -> str:
        """Return a file's text. Raises Changed when there is none."""
        text = self.text(path)
        if text is None:
            raise Changed(path)
        return text

    def names(self, path: str) -> tuple[str, ...] | None:
        """Return a directory's names, None when there is no such directory. Raises RefusedError."""
        match self._results[List(path)]:
            case Names(names):
                return names
            case Failed(number) if number in _GONE:
                return None
            case other:
                raise _unreadable(path, other)

    def target(self, path: str) -> str | None:
        """Return a link's target, None when there is no such link. Raises RefusedError."""
        match self._results[Link(path)]:
            case Target(target):
                return target
            case Failed(number) if number in _GONE:
                return None
            case other:
                raise _unreadable(path, other)

    def was_read(self, path: str) -> bool:
        """Tell whether a file was asked for."""
        return Read(path) in self._results

    def result(self, op: Op) -> Result:
        """Return the bare result of an operation."""
        return self._results[op]

    def failed(self, op: Op) -> int | None:
        """Return the errno with which an operation failed, None when it did not."""
        result = self._results[op]
        return result.errno if isinstance(result, Failed) else None


def _unreadable(path: str, result: Result) -> RefusedError:
    if isinstance(result, Failed):
        return RefusedError(hosterrors.meaning(path, result.errno, "inventory"))
    return RefusedError(Refusal("NotSysfs", path, "answers what was not asked"))


def nonsense(path: str, text: str) -> RefusedError:
    """Return the refusal for a file whose text is not of its form."""
    return RefusedError(Refusal("NotSysfs", path, f"says {text[:60]!r}", "report this with the kernel's release"))
