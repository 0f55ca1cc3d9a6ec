"""Definitions for mdevctl, so that a plain KVM host has its devices again after a boot (T-1, T-2).

They are written only where an administrator asks for it, never by the agent in a cluster: there a definition could
revive a matrix that has moved to another node meanwhile. What we wrote is recorded. A definition that somebody
else wrote is neither replaced nor removed, and one of ours goes with its device.

mdevctl starts devices when vfio_ap registers and waits for no mask (T-5): the masks have to be persistent, too,
which chzdev does. An override does not outlive a boot, so there is nothing to define in that mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_agent.apply import Outcome
from vfio_ap_agent.statedir import StateDir

DEFAULT = Path("/etc/mdevctl.d/matrix")
_NAME = "definitions.json"


def definition(matrix: Matrix) -> str:
    """Return a definition that starts the device with its parent."""
    kinds = (("adapter", matrix.adapters), ("domain", matrix.domains), ("control_domain", matrix.control_domains))
    attrs = [{f"assign_{kind}": str(number)} for kind, ids in kinds for number in ids]
    document: dict[str, Any] = {"mdev_type": "vfio_ap-passthrough", "start": "auto", "attrs": attrs}
    return json.dumps(document, indent=2) + "\n"


def mask_hint(outcome: Outcome) -> str:
    """Return the command that makes the masks outlive a boot, empty where they are the default."""
    masks = outcome.view.masks
    if masks.default():
        return ""
    return f"chzdev --type ap --persistent apmask={_list(masks.adapters)} aqmask={_list(masks.domains)}"


def _list(ids: IdSet) -> str:
    return str(ids) or '""'


class Definitions:
    """The definitions of ours, by the record in the state directory. Raises RefusedError StateUnwritable."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        written = state.load(_NAME).get("written", {})
        self._written: dict[str, str] = (
            {str(path): str(digests) for path, digests in written.items()} if isinstance(written, dict) else {}
        )
        """By path, digests of the texts that are ours."""

    def persist(self, directory: Path, outcome: Outcome, ours: Mapping[str, Matrix | None]) -> list[Refusal]:
        """Define every device of ours that holds what was wished; return what could not be done."""
        if outcome.view.kernel.queue_control == "DriverOverride":
            text = "nothing was defined: driver_override does not outlive a boot"
            return [Refusal("NotPersistent", "mdevctl", text, "run vfio-ap-agent apply from a unit at boot")]
        problems = []
        for report in outcome.reports:
            if report.state in ("Ready", "Incomplete") and report.uuid in ours:
                path = directory / report.uuid
                refusal = _rival(path, report.matrix) or self._define(path, definition(report.matrix))
                problems += [refusal] if refusal else []
        return problems

    def _define(self, path: Path, text: str) -> Refusal | None:
        found = _text(path)
        if found == text:
            return None
        known = self._written.get(str(path), "")
        if found is not None and _digest(found) not in known:
            remedy = "remove it, or keep what it says equal to the desired file"
            return Refusal("DefinitionForeign", str(path), "was written by somebody else", remedy)
        old = _digest(found) if found is not None else ""
        self._record({**self._written, str(path): f"{old} {_digest(text)}".strip()})  # either, if we end here
        fresh = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text)
            fresh.replace(path)
        except OSError as error:
            return Refusal("DefinitionUnwritable", str(path), error.strerror or str(error))
        return None

    def forget(self, ours: Mapping[str, Matrix | None]) -> list[Refusal]:
        """Remove definitions of ours whose devices are not ours any more."""
        problems = []
        for name, digests in list(self._written.items()):
            path = Path(name)
            if path.name in ours:
                continue
            found = _text(path)
            if found is not None and _digest(found) not in digests:
                text = "was changed by somebody else and stays, although its device is gone"
                problems.append(Refusal("DefinitionForeign", name, text, "remove it"))
            else:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            self._record({other: value for other, value in self._written.items() if other != name})
        return problems

    def _record(self, written: dict[str, str]) -> None:
        if written != self._written:
            self._state.save(_NAME, {"written": written})
            self._written = written


def _rival(path: Path, matrix: Matrix) -> Refusal | None:
    """Say which other definition starts with the host and has a queue of ours, as s390-tools would (T-8)."""
    others = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    for other in others:
        held = None if other == path else _autostarted(other)
        if held is not None and (common := held.overlap(matrix)):
            text = f"would have queue {common.first()}, which is defined for autostart by {other.name}"
            return Refusal("DefinitionConflict", str(path), text, "take the queue out of one of the two")
    return None


def _autostarted(path: Path) -> Matrix | None:
    """Return what a definition starts with the host; None for what is none, or is none of vfio_ap's."""
    ids: dict[str, int] = {"assign_adapter": 0, "assign_domain": 0}
    try:
        document = json.loads(path.read_text())
        if document["start"] != "auto" or document["mdev_type"] != "vfio_ap-passthrough":
            return None
        for attribute in document.get("attrs", ()):
            for name, value in attribute.items():
                if name == "ap_config":
                    masks = [IdSet.from_mask(mask).bits for mask in value.strip().split(",")]
                    ids = {"assign_adapter": masks[0], "assign_domain": masks[1]}
                elif name in ids:
                    ids[name] |= IdSet.of(int(value, 0)).bits
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RefusedError):
        return None
    return Matrix(IdSet(ids["assign_adapter"]), IdSet(ids["assign_domain"]))


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
