"""Which queue holds which master keys, and how that is known: read now, attested, or read before it left. Pure.

A queue that the host's driver has is read, and nobody's word counts against that. The keys of one that guests have
cannot be read (Q-17): an administrator's word counts there, and without one the last sample, with its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vfio_ap.errors import Refusal
from vfio_ap.host.view import HOST_DRIVER, HostView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn
from vfio_ap_agent.desired import Attestation
from vfio_ap_agent.samples import QueueSample, Samples
from vfio_ap_api import apnode


@dataclass(slots=True)
class KeyPicture:
    """Sets of keys by name, and their uses by adapter."""

    sets: dict[str, apnode.KeySet] = field(default_factory=dict)
    rows: dict[int, dict[tuple[str, bool], tuple[int, str]]] = field(default_factory=dict)
    """By adapter, then set and whether it is known now: domains as bits, and the oldest sample's time."""
    contradicted: dict[int, Refusal] = field(default_factory=dict)
    """What was read and an attestation says otherwise, the first queue of each."""

    @property
    def problems(self) -> list[Refusal]:
        """Return what is to be said."""
        return list(self.contradicted.values())

    def uses(self, adapter: int) -> list[apnode.KeyUse]:
        """Return which domains of an adapter hold which set."""
        rows = sorted(self.rows.get(adapter, {}).items())
        return [apnode.KeyUse(domains=str(IdSet(bits)), set=name, sampled=at) for (name, _), (bits, at) in rows]


def picture(view: HostView, samples: Samples, attested: Iterable[Attestation]) -> KeyPicture:
    """Return what is known of the keys of a host's queues.

    The time of a sample is told only where the queue left the host since: what the host can read is current, and
    a time that advances by itself would be a write to the API server at rest.
    """
    found = KeyPicture()
    names: dict[tuple[int, str], str] = {}
    words = {apqn: entry for entry in attested for apqn in entry.queues if apqn in view.queues}
    for apqn, queue in view.queues.items():
        sample, word = samples.queues.get(apqn), words.get(apqn)
        current = queue.driver == HOST_DRIVER and sample is not None and bool(sample.keys)
        if word is not None and not current:
            _use(found, apqn, _named(found, word.patterns, "", attested=True), known=True, time="")
            continue
        if sample is None or not sample.keys:
            continue
        if word is not None and (register := _contradicts(word.patterns, sample)):
            found.contradicted.setdefault(id(word), _differs(apqn, register, word.patterns[register], sample))
        key = id(sample.keys), sample.modes
        if (name := names.get(key)) is None:
            name = names[key] = _named(found, sample.keys, sample.modes, attested=False)
        _use(found, apqn, name, known=current, time="" if current else sample.time)
    return found


def _named(found: KeyPicture, patterns: Mapping[str, str], modes: str, *, attested: bool) -> str:
    """Return the name of a set, which says its content; add the set unless it is there."""
    text = repr((sorted(patterns.items()), modes, attested))
    name = "k" + hashlib.sha256(text.encode()).hexdigest()[:10]
    if name not in found.sets:
        found.sets[name] = apnode.KeySet(
            name=name, patterns=dict(patterns), op_modes=modes.split(), attested=attested
        )
    return name


def _use(found: KeyPicture, apqn: Apqn, name: str, *, known: bool, time: str) -> None:
    row = found.rows.setdefault(apqn.adapter, {})
    bits, oldest = row.get((name, known), (0, time))
    row[name, known] = bits | 1 << apqn.domain, min(oldest, time)


def _contradicts(patterns: Mapping[str, str], sample: QueueSample) -> str:
    return next((register for register, value in patterns.items() if sample.keys.get(register) != value), "")


def _differs(apqn: Apqn, register: str, value: str, sample: QueueSample) -> Refusal:
    text = f"holds {sample.keys.get(register, 'nothing')} in {register}, attested is {value}"
    return Refusal("AttestationDiffers", str(apqn), text, "correct spec.attestedKeys; what was read counts")
