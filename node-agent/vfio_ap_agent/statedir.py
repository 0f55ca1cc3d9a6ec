"""What the agent remembers over restarts, as JSON files that are replaced whole.

A file that is damaged is kept aside and said to be, and the agent goes on as if there were none: it then takes
devices for foreign and cleared mask bits for somebody else's, which is always the safe side.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.wish import Ours
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

_LOG = logging.getLogger(__name__)
_VERSION = 1


class StateDir:
    """A directory of small JSON files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problems: list[Refusal] = []

    def load(self, name: str) -> dict[str, Any]:
        """Return a file's document; empty when there is none, or when it was damaged and is kept aside."""
        path = self._directory / name
        try:
            document = json.loads(path.read_text())
            if not isinstance(document, dict) or document.get("version") != _VERSION:
                raise ValueError("it is of another version or shape")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self.set_aside(name, str(error))
            return {}
        return document

    def set_aside(self, name: str, why: str) -> None:
        """Keep a damaged file under another name and remember to say so."""
        path = self._directory / name
        aside = path.with_suffix(".damaged")
        with contextlib.suppress(OSError):
            path.rename(aside)
        refusal = Refusal("StateDamaged", str(path), f"cannot be used: {why}", f"it is kept as {aside}")
        _LOG.warning("%s", refusal)
        self.problems.append(refusal)

    def save(self, name: str, document: dict[str, Any]) -> None:
        """Replace a file, on the disk before this returns. Raises RefusedError StateUnwritable."""
        path = self._directory / name
        fresh = path.with_suffix(".new")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with fresh.open("w") as file:
                json.dump({"version": _VERSION, **document}, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            text = f"cannot be written: {error.strerror}"
            remedy = "give --state-dir a directory on a disk with room"
            raise RefusedError(Refusal("StateUnwritable", str(path), text, remedy)) from None


class OursFile:
    """Which mask bits and devices are ours; written down before a write makes it true."""

    _NAME = "ours.json"

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self.boot = ""
        self.ours = Ours()
        document = state.load(self._NAME)
        try:
            self.boot = str(document.get("boot", ""))
            self.ours = Ours(
                _matrix(document.get("bits", {})),
                {str(u): None if m is None else _matrix(m) for u, m in document.get("mdevs", {}).items()},
                _queues(document.get("overrides", {})),
                {str(uuid): str(name) for uuid, name in document.get("names", {}).items()},
            )
        except (RefusedError, AttributeError, TypeError, ValueError) as error:
            state.set_aside(self._NAME, str(error))

    def put(self, ours: Ours, boot: str) -> None:
        """Write down, if anything changed. Raises RefusedError StateUnwritable."""
        if ours == self.ours and boot == self.boot:
            return
        mdevs = {uuid: None if matrix is None else _document(matrix) for uuid, matrix in ours.mdevs.items()}
        document: dict[str, Any] = {"boot": boot, "bits": _document(ours.bits), "mdevs": mdevs}
        document |= {"overrides": _rows(ours.overrides), "names": dict(ours.names)}
        self._state.save(self._NAME, document)
        self.ours, self.boot = ours, boot


def _rows(apqns: Iterable[Apqn]) -> dict[str, str]:
    """Return domains by adapter."""
    bits: dict[int, int] = {}
    for apqn in apqns:
        bits[apqn.adapter] = bits.get(apqn.adapter, 0) | 1 << apqn.domain
    return {str(adapter): str(IdSet(domains)) for adapter, domains in sorted(bits.items())}


def _queues(rows: Mapping[str, str]) -> frozenset[Apqn]:
    return frozenset(Apqn(int(adapter), domain) for adapter, ids in rows.items() for domain in IdSet.parse(ids))


def _document(matrix: Matrix) -> dict[str, str]:
    return {
        "adapters": str(matrix.adapters),
        "domains": str(matrix.domains),
        "controlDomains": str(matrix.control_domains),
    }


def _matrix(document: dict[str, str]) -> Matrix:
    return Matrix(*(IdSet.parse(document.get(name, "")) for name in ("adapters", "domains", "controlDomains")))
