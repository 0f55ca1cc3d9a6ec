"""Pairs of modelled hosts that differ in what a move may depend on, each with what the product says of them.

A pair is drawn from a seed: a source whose guest has a device, a target with one prepared for it, and some things
changed on either side. ``Pair.documents`` are APNodes as the agent's own code writes them from the modelled sysfs.
"""

from __future__ import annotations

import asyncio
import functools
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vfio_ap.host.report import report
from vfio_ap.host.wish import HostPlan, Ours, WantedMdev, Wish
from vfio_ap.matrix import Matrix
from vfio_ap_agent import status
from vfio_ap_agent.inventory.read import read_host
from vfio_ap_agent.keys import picture
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import StateDir
from vfio_ap_sim.kernel import Control, InProcessHost, boot, machine_from

from .conftest import BUS, MATRIX, TYPE, A, B

CCA, EP11, ACCELERATOR = 0x93800000, 0x87800000, 0xEB800000
WORDS = {"C": CCA, "P": EP11, "A": ACCELERATOR}
MODES = (0x10000000, 0x08000000, 0x04000000)
FACILITIES = (0x80000000, 0x40000000, 0x20000000, 0x02000000, 0x01000000)
FULL, STATELESS = 0x00800000, 0x00400000


@dataclass(frozen=True)
class Adapter:
    """One adapter of a side."""

    id: int
    type: str = "CEX7C"
    functions: int = CCA
    fault: str = ""
    """``deconfigured`` or ``checkstopped``."""

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"id": self.id, "type": self.type, "functions": self.functions}
        return found | {self.fault: True} if self.fault else found


@dataclass(frozen=True)
class Side:
    """One host before anything moves."""

    profile: str
    sequence: str
    adapters: tuple[Adapter, ...] = (Adapter(5), Adapter(6))
    usage: str = "4,6"
    control: str = "4,6"
    max_domain: int = 255
    device: Matrix | None = Matrix.parse("5,6", "4,6", "4")
    """What the device of the matrix is made with; None: there is none."""
    away: tuple[tuple[str, str], ...] = ()
    """Queues taken from vfio_ap afterwards: name, and whether the host's driver gets it."""
    other: Matrix | None = None
    """What another device has, made first."""
    guest: bool = False
    """A guest has the device open."""
    foreign: bool = False
    """The device is not the agent's doing."""
    reserved: Matrix | None = None
    """APNode spec.hostReserved; the host does not follow it by itself here."""
    keys: str = ""
    """Name of the master keys; with one, the agent sampled them before the host gave the queues away."""

    def boot(self) -> Control:
        """Return the host as it starts."""
        cards = [a.document() | ({"keys": self.keys} if self.keys else {}) for a in self.adapters]
        machine = {
            "machine": {"sequence": self.sequence, "lpar": "LPAR1"},
            "adapters": cards,
            "usageDomains": self.usage,
            "controlDomains": self.control,
            "maxDomain": self.max_domain,
        }
        return boot(machine_from(machine), self.profile)

    def prepare(self, control: Control) -> None:
        """Do what was done on the host before the move; writes that the kernel refuses change nothing."""
        write = control.kernel.write
        write(f"{BUS}/apmask", "\n")
        for uuid, matrix in ((B, self.other), (A, self.device)):
            if matrix is None:
                continue
            write(f"{TYPE}/create", uuid)
            try:
                write(f"{MATRIX}/{uuid}/ap_config", matrix.ap_config())
            except OSError:
                continue
        if self.device is not None and self.profile == "MIGv1":
            write(f"{MATRIX}/{A}/migratable", "1")
        for queue, how in self.away:
            try:
                write(f"{BUS}/drivers/vfio_ap/unbind", queue)
                if how == "host":
                    write(f"{BUS}/drivers/cex4queue/bind", queue)
            except OSError:
                continue
        if self.guest and self.device is not None:
            control.start_guest("vm", A)

    def ready(self) -> Control:
        """Return a host that nothing has moved from or to, prepared."""
        if (control := _UNUSED.pop(self, None)) is None:
            control = self.boot()
            self.prepare(control)
        return control


@dataclass(frozen=True)
class Pair:
    """One question: source and target, and what was changed on them."""

    source: Side
    target: Side
    changes: tuple[str, ...] = ()
    wanted: Matrix = field(default_factory=lambda: Matrix.parse("5,6", "4,6", "4"))
    """The ids of the APMatrix."""


_UNUSED: dict[Side, Control] = {}
"""Hosts that were only read: as good as new."""


@functools.cache
def document(name: str, side: Side, wanted: Matrix) -> dict[str, Any]:
    """Return the APNode of a host in this state, as the agent's own code reads and writes it.

    The model is deterministic: sides that are the same are read once.
    """
    control = side.boot()
    with tempfile.TemporaryDirectory() as folder:
        samples = Samples(StateDir(Path(folder)), clock=lambda: "2026-11-21T10:00:00Z")
        host = InProcessHost(control.kernel)
        if side.keys:
            _run(samples.take(host, _run(read_host(host))))
        side.prepare(control)
        view = _run(read_host(host))
    _UNUSED[side] = control
    ours = Ours() if side.foreign or side.device is None else Ours(mdevs={A: side.device})
    wish = Wish() if side.foreign or side.device is None else Wish((WantedMdev(A, "pay", wanted),))
    reports = report(view, wish, ours, HostPlan())
    reserved = side.reserved
    return {
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "hostReserved": [{"adapters": str(reserved.adapters), "domains": str(reserved.domains)}]
            if reserved
            else []
        },
        "status": status.build(view, HostPlan(), reports, samples, picture(view, samples, ())),
    }


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(work: Any) -> Any:
    return _loop().run_until_complete(work)


# -- what may differ

Change = Callable[[random.Random, Pair], Pair]


def _card(side: Side, number: int, edit: Callable[[Adapter], Adapter]) -> Side:
    return replace(side, adapters=tuple(edit(a) if a.id == number else a for a in side.adapters))


def _either(rng: random.Random, pair: Pair, edit: Callable[[Side], Side]) -> Pair:
    """Change one side, the target three times out of four, or now and then both alike."""
    draw = rng.random()
    if draw < 0.1:
        return replace(pair, source=edit(pair.source), target=edit(pair.target))
    if draw < 0.3:
        return replace(pair, source=edit(pair.source))
    return replace(pair, target=edit(pair.target))


def _adapter(rng: random.Random, pair: Pair, edit: Callable[[Adapter], Adapter]) -> Pair:
    number = rng.choice((5, 6))
    return _either(rng, pair, lambda side: _card(side, number, edit))


def _type(rng: random.Random, pair: Pair) -> Pair:
    kind = rng.choice((5, 6, 8))
    return _adapter(rng, pair, lambda a: replace(a, type=f"CEX{kind}{a.type[-1]}"))


def _mode(rng: random.Random, pair: Pair) -> Pair:
    letter, only_mode = rng.choice("AP"), rng.random() < 0.5
    word = CCA & ~sum(MODES) | {"A": MODES[1], "P": MODES[2]}[letter] if only_mode else WORDS[letter]
    return _adapter(rng, pair, lambda a: replace(a, type=f"{a.type[:-1]}{letter}", functions=word))


def _bit(bits: tuple[int, ...]) -> Change:
    def change(rng: random.Random, pair: Pair) -> Pair:
        bit = rng.choice(bits)
        return _adapter(rng, pair, lambda a: replace(a, functions=a.functions ^ bit))

    return change


def _class(rng: random.Random, pair: Pair) -> Pair:
    kind = rng.choice((STATELESS, 0, FULL | STATELESS, FULL | 0x00010000))
    return _adapter(rng, pair, lambda a: replace(a, functions=a.functions & 0xFF00FFFF | kind))


def _fault(rng: random.Random, pair: Pair) -> Pair:
    fault = rng.choice(("deconfigured", "checkstopped"))
    return _adapter(rng, pair, lambda a: replace(a, fault=fault))


def _no_adapter(rng: random.Random, pair: Pair) -> Pair:
    number = rng.choice((5, 6))
    return _either(
        rng, pair, lambda side: replace(side, adapters=tuple(a for a in side.adapters if a.id != number))
    )


def _no_domain(rng: random.Random, pair: Pair) -> Pair:
    usage = rng.choice(("4", "6", "0xab"))
    return _either(rng, pair, lambda side: replace(side, usage=usage))


def _no_control(rng: random.Random, pair: Pair) -> Pair:
    return _either(rng, pair, lambda side: replace(side, control="6"))


def _away(rng: random.Random, pair: Pair) -> Pair:
    queue = rng.choice(("05.0004", "05.0006", "06.0004", "06.0006"))
    how = rng.choice(("host", "nobody"))
    return _either(rng, pair, lambda side: replace(side, away=((queue, how),)))


def _other(rng: random.Random, pair: Pair) -> Pair:
    other = Matrix.parse(rng.choice(("5", "6", "5,6", "7")), rng.choice(("4", "6", "0xab")))
    return replace(pair, target=replace(pair.target, other=other))


def _other_config(rng: random.Random, pair: Pair) -> Pair:
    shapes = ("5|4,6|4", "5,6|4|4", "5,6|4,6,0xab|4", "5,6|4,6|", "||", "6|6|")
    device = Matrix.parse(*rng.choice(shapes).split("|"))
    return replace(pair, target=replace(pair.target, device=device))


def _no_device(_: random.Random, pair: Pair) -> Pair:
    return replace(pair, target=replace(pair.target, device=None))


def _target_guest(_: random.Random, pair: Pair) -> Pair:
    return replace(pair, target=replace(pair.target, guest=True))


def _foreign(_: random.Random, pair: Pair) -> Pair:
    return replace(pair, target=replace(pair.target, foreign=True))


def _reserved(rng: random.Random, pair: Pair) -> Pair:
    kept = Matrix.parse(rng.choice(("5", "7")), rng.choice(("4", "6")))
    return replace(pair, target=replace(pair.target, reserved=kept))


def _one_machine(_: random.Random, pair: Pair) -> Pair:
    return replace(pair, target=replace(pair.target, sequence=pair.source.sequence))


def _keys(rng: random.Random, pair: Pair) -> Pair:
    other = rng.choice(("bank", "other"))
    return replace(pair, source=replace(pair.source, keys="bank"), target=replace(pair.target, keys=other))


def _edited(rng: random.Random, pair: Pair) -> Pair:
    shapes = ("5,6|4,6,0xab|4", "5|4,6|4", "5,6,9|4,6|4", "5,6|4,6|4,6")
    return replace(pair, wanted=Matrix.parse(*rng.choice(shapes).split("|")))


def _over_provisioned(rng: random.Random, pair: Pair) -> Pair:
    wide = Matrix.parse("5,6,9", "4,6,17", "4,17")
    pair = replace(
        pair, wanted=wide, source=replace(pair.source, device=wide), target=replace(pair.target, device=wide)
    )
    if rng.random() < 0.4:
        return replace(pair, target=replace(pair.target, adapters=(*pair.target.adapters, Adapter(9))))
    return pair


def _no_migration(rng: random.Random, pair: Pair) -> Pair:
    return _either(rng, pair, lambda side: replace(side, profile="K7.1"))


def _other_version(_: random.Random, pair: Pair) -> Pair:
    profile = "MIGv4PLUS" if pair.source.profile == "MIGv1" else "MIGv1"
    return replace(pair, target=replace(pair.target, profile=profile))


def _low_maximum(_: random.Random, pair: Pair) -> Pair:
    wide = Matrix.parse("5,6", "4,0xab", "4")
    return replace(
        pair,
        wanted=wide,
        source=replace(pair.source, device=wide, usage="4,0xab"),
        target=replace(pair.target, device=wide, usage="4,6", control="4,6", max_domain=84),
    )


CHANGES: dict[str, tuple[int, Change]] = {
    "type": (6, _type),
    "mode": (5, _mode),
    "facility": (6, _bit(FACILITIES)),
    "class": (5, _class),
    "nameless bits": (2, _bit((0x1, 0x2000, 0x00100000))),
    "bind state": (2, _bit((0x4000, 0x8000))),
    "dead adapter": (3, _fault),
    "no adapter": (3, _no_adapter),
    "no domain": (3, _no_domain),
    "no control domain": (3, _no_control),
    "queue away": (3, _away),
    "other device": (3, _other),
    "other configuration": (3, _other_config),
    "no device": (1, _no_device),
    "guest on target": (1, _target_guest),
    "foreign device": (1, _foreign),
    "reserved": (1, _reserved),
    "one machine": (1, _one_machine),
    "keys": (1, _keys),
    "edited": (2, _edited),
    "over-provisioned": (2, _over_provisioned),
    "no migration": (1, _no_migration),
    "other version": (1, _other_version),
    "low maximum": (1, _low_maximum),
}
"""Weight and change, by name."""
_SHAPES = ("5,6|4,6|4", "5,6|4,6|4", "5|4,6|4,6", "5,6|6|")
PROFILES = ("MIGv1", "MIGv4PLUS", "MIGv4PLUS-T")


def draw(seed: int) -> Pair:
    """Return the pair of a seed: equal sides of one kind or another, then none to three things changed on them.

    Each change comes alone often enough, and so do most couples.
    """
    rng = random.Random(seed)
    profile = PROFILES[seed % len(PROFILES)]
    letters = ("C", rng.choice("CCPA"))
    cards = tuple(
        Adapter(number, f"CEX{rng.choice((6, 7))}{letter}", WORDS[letter])
        for number, letter in zip((5, 6), letters, strict=True)
    )
    wanted = Matrix.parse(*rng.choice(_SHAPES).split("|"))
    side = Side(profile, "0000000000000001", cards, device=wanted)
    pair = Pair(replace(side, guest=True), replace(side, sequence="0000000000000002"), wanted=wanted)
    number = rng.choices((0, 1, 2, 3), (1, 8, 5, 3))[0]
    names = list(CHANGES)
    chosen = set(rng.choices(names, [CHANGES[name][0] for name in names], k=number))
    for name in (name for name in CHANGES if name in chosen):
        pair = CHANGES[name][1](rng, pair)
    return replace(pair, changes=tuple(sorted(chosen)))
