"""From the text of a wish (``APNode.spec`` or a file of the same shape) to a ``Wish``.

The text may have been edited by hand. A device that says nothing usable is refused by itself: what exists of it
stays as it is, and the rest is done. Two things cannot be narrowed down like that: a device whose UUID cannot be
read (then nothing is removed, since it might be any) and host-reserved queues that cannot be read (then nothing
is changed at all, since a queue of theirs might leave the host). Attested keys that make no sense count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.wish import WantedMdev, Wish
from vfio_ap.matrix import Matrix
from vfio_ap_api.apnode import APNodeSpec, AttestedKeys, DesiredMdev, ReservedQueues

_FIELDS = {field.alias or name for name, field in APNodeSpec.model_fields.items()}


@dataclass(frozen=True, slots=True)
class Attestation:
    """Which queues are said to hold which master keys."""

    queues: Matrix
    patterns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Desired:
    """A wish, and what is to be offered to the kubelet of it."""

    wish: Wish = field(default_factory=Wish)
    granted: Mapping[str, str] = field(default_factory=dict)
    """Name of the matrix by UUID, of devices that a pod may get."""
    attested: tuple[Attestation, ...] = ()
    """Master keys by an administrator's word; no queue is in two of them."""
    problems: tuple[Refusal, ...] = ()
    """What the text says wrongly."""


def load(path: Path) -> Desired:
    """Return the wish in a YAML file, which may be a whole APNode. Raises RefusedError."""
    import yaml  # only here: a spec from the API server is none

    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RefusedError(Refusal("DesiredUnreadable", str(path), error.strerror or str(error))) from None
    except yaml.YAMLError as error:
        raise RefusedError(Refusal("DesiredUnreadable", str(path), f"is not YAML: {error}")) from None
    if isinstance(document, dict) and "spec" in document:
        document = document["spec"]
    if not isinstance(document, dict):
        shape = "write mdevs: [{uuid: .., matrix: .., adapters: '5-6', domains: '4,6'}]"
        raise RefusedError(Refusal("DesiredUnreadable", str(path), "is not a mapping", shape))
    return parse(document)


def parse(spec: Mapping[str, Any]) -> Desired:
    """Return the wish of a spec."""
    problems: list[Refusal] = []
    if unknown := sorted(set(spec) - _FIELDS):
        problems.append(Refusal("SpecInvalid", "spec", f"has unknown fields: {', '.join(map(str, unknown))}"))
    reserved, closed = _reserved(spec.get("hostReserved"))
    mdevs: dict[str, WantedMdev] = {}
    refused: dict[str, Refusal] = {}
    granted: dict[str, str] = {}
    names: dict[str, str] = {}
    incomplete: Refusal | None = None
    items = spec.get("mdevs") or []
    if not isinstance(items, list):
        incomplete = Refusal("SpecInvalid", "spec.mdevs", "is not a list")
        items = []
    for index, item in enumerate(items):
        where = f"spec.mdevs[{index}]"
        try:
            wanted = DesiredMdev.model_validate(item)
            matrix = wanted.configuration()
            if not matrix.adapters or not matrix.domains:
                raise RefusedError(Refusal("SpecInvalid", wanted.uuid, "names no adapters or no domains"))
            if wanted.uuid in mdevs or wanted.uuid in refused:
                raise RefusedError(Refusal("SpecInvalid", wanted.uuid, "is named twice", "name each device once"))
        except (ValidationError, RefusedError) as error:
            refusal = _said(where, error)
            problems.append(refusal)
            uuid = item.get("uuid") if isinstance(item, dict) else None
            if isinstance(uuid, str) and _is_uuid(uuid):
                refused.setdefault(uuid, refusal)
                names[uuid] = str(item.get("matrix", ""))
                mdevs.pop(uuid, None)
            else:
                incomplete = refusal
            continue
        mdevs[wanted.uuid] = WantedMdev(
            wanted.uuid, wanted.matrix, matrix, wanted.adopt, wanted.frozen, wanted.migratable
        )
        if wanted.granted:
            granted[wanted.uuid] = wanted.matrix
    if closed is not None:
        problems.append(closed)
        refused |= dict.fromkeys(mdevs, closed)
        incomplete = closed
    problems += [incomplete] if incomplete is not None and incomplete not in problems else []
    wish = Wish(tuple(mdevs.values()), reserved, refused, names, incomplete)
    attested, doubts = _attested(spec.get("attestedKeys"))
    problems += doubts
    granted = {uuid: name for uuid, name in granted.items() if uuid in mdevs}
    return Desired(wish, granted, attested, tuple(problems))


def _reserved(items: object) -> tuple[tuple[Any, ...], Refusal | None]:
    remedy = "nothing is changed on the node until it can be read"
    if items is None:
        return (), None
    if not isinstance(items, list):
        return (), Refusal("SpecInvalid", "spec.hostReserved", "is not a list", remedy)
    found = []
    for index, item in enumerate(items):
        where = f"spec.hostReserved[{index}]"
        try:
            found.append(ReservedQueues.model_validate(item).matrix())
        except (ValidationError, RefusedError) as error:
            return (), replace(_said(where, error), remedy=remedy)
    return tuple(found), None


def _attested(items: object) -> tuple[tuple[Attestation, ...], list[Refusal]]:
    """Return what can be believed; an entry that makes no sense, or repeats a queue, cannot."""
    if items is None:
        return (), []
    if not isinstance(items, list):
        return (), [Refusal("SpecInvalid", "spec.attestedKeys", "is not a list")]
    found: list[Attestation] = []
    problems = []
    for index, item in enumerate(items):
        where = f"spec.attestedKeys[{index}]"
        try:
            entry = AttestedKeys.model_validate(item)
            queues = entry.matrix()
            for other in found:
                if common := queues.overlap(other.queues):
                    text = "is attested twice"
                    raise RefusedError(Refusal("SpecInvalid", str(common.first()), text, "name each queue once"))
            found.append(Attestation(queues, entry.patterns))
        except (ValidationError, RefusedError) as error:
            problems.append(_said(where, error))
    return tuple(found), problems


def _said(where: str, error: ValidationError | RefusedError) -> Refusal:
    if isinstance(error, RefusedError):
        inner = error.refusal
        return Refusal("SpecInvalid", where, f"{inner.subject} {inner.message}".strip(), inner.remedy)
    first = error.errors()[0]
    field_name = ".".join(str(part) for part in first["loc"])
    return Refusal("SpecInvalid", f"{where}.{field_name}" if field_name else where, first["msg"])


def _is_uuid(text: str) -> bool:
    return [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]
