"""The control verbs as a table: one line gives the command line, its help and what the server does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vfio_ap_sim.kernel import Control


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a verb."""

    name: str
    help: str
    kind: type = str
    """``str``, ``int`` or ``bool``; a bool is a flag that is off unless given."""
    optional: bool = False

    @property
    def flag(self) -> bool:
        """Whether it is given as ``--name``."""
        return self.optional or self.kind is bool


Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb; ``run`` returns a Task, something for JSON, or None."""

    name: str
    help: str
    run: Callable[[Control, Values], object]
    arguments: tuple[Argument, ...] = ()


_ADAPTER = Argument("adapter", "adapter id, such as 5 or 0x0a")
_LATER = Argument("no-scan", "do not tell the kernel: it finds out with its next bus scan", bool)
_GUEST = Argument("name", "name of the guest")
_TYPE = "CEX4 to CEX8 and A, C or P, such as CEX8C"


def _scan(values: Values) -> bool:
    return not values["no-scan"]


_ALL = (
    Verb(
        "plug",
        "give the LPAR an adapter",
        lambda c, v: c.plug(v["adapter"], v["type"] or "CEX8C", keys=v["keys"], scan=_scan(v)),
        (
            _ADAPTER,
            Argument("type", f"{_TYPE} (the default)", optional=True),
            Argument("keys", "name of its master keys; default: keys of its own", optional=True),
            _LATER,
        ),
    ),
    Verb(
        "unplug",
        "take an adapter from the LPAR",
        lambda c, v: c.unplug(v["adapter"], scan=_scan(v)),
        (_ADAPTER, _LATER),
    ),
    Verb(
        "configure",
        "configure an adapter on",
        lambda c, v: c.configure(v["adapter"], scan=_scan(v)),
        (_ADAPTER, _LATER),
    ),
    Verb(
        "deconfigure",
        "configure an adapter off",
        lambda c, v: c.deconfigure(v["adapter"], scan=_scan(v)),
        (_ADAPTER, _LATER),
    ),
    Verb(
        "checkstop",
        "stop an adapter as after a hardware error",
        lambda c, v: c.checkstop(v["adapter"], on=not v["repair"], scan=_scan(v)),
        (_ADAPTER, Argument("repair", "end the checkstop instead", bool), _LATER),
    ),
    Verb(
        "set-domains",
        "set the LPAR's domains",
        lambda c, v: c.set_domains(v["usage"], v["control"], scan=_scan(v)),
        (
            Argument("usage", 'usage domains, such as "4,6,0x10-0x1f"', optional=True),
            Argument("control", "control domains", optional=True),
            _LATER,
        ),
    ),
    Verb(
        "set-type",
        "exchange an adapter for one of another type",
        lambda c, v: c.set_type(v["adapter"], v["type"], functions=v["functions"], scan=_scan(v)),
        (
            _ADAPTER,
            Argument("type", _TYPE),
            Argument("functions", "its ap_functions word", int, optional=True),
            _LATER,
        ),
    ),
    Verb(
        "set-key",
        "load master keys, by name, into an adapter",
        lambda c, v: c.set_key(v["adapter"], v["key"], domain=v["domain"]),
        (
            _ADAPTER,
            Argument("key", "name of the keys; equal names are equal keys on any machine"),
            Argument("domain", "only this domain", optional=True),
        ),
    ),
    Verb(
        "reset-time",
        "set how long a queue reset takes",
        lambda c, v: c.reset_time(v["milliseconds"]),
        (Argument("milliseconds", "0 for at once", int),),
    ),
    Verb(
        "answer",
        "have a queue answer TAPQ with a response code",
        lambda c, v: c.answer(v["adapter"], v["domain"], v["code"], asynchronous=v["asynchronous"]),
        (
            _ADAPTER,
            Argument("domain", "domain id"),
            Argument("code", "response code; left out, what its state says", int, optional=True),
            Argument("asynchronous", "with the asynchronous bit", bool),
        ),
    ),
    Verb("scan", "scan the AP bus now", lambda c, v: c.scan()),
    Verb("load", "load vfio_ap", lambda c, v: c.load()),
    Verb("unload", "unload vfio_ap; all its mdevs go", lambda c, v: c.unload()),
    Verb(
        "start-guest",
        "start a guest with an mdev, or plug one into a running guest",
        lambda c, v: c.start_guest(v["name"], v["uuid"], obeys=False if v["stubborn"] else None),
        (
            _GUEST,
            Argument("uuid", "UUID of the mdev"),
            Argument("stubborn", "it keeps the device when the kernel asks for it", bool),
        ),
    ),
    Verb("stop-guest", "stop a guest", lambda c, v: c.stop_guest(v["name"]), (_GUEST,)),
    Verb("reset-guest", "reboot a guest", lambda c, v: c.reset_guest(v["name"]), (_GUEST,)),
    Verb(
        "obey",
        "let a guest give its device back when the kernel asks for it",
        lambda c, v: c.obey(v["name"], not v["no"]),
        (_GUEST, Argument("no", "let it keep the device", bool)),
    ),
    Verb("klog", "print the kernel log", lambda c, v: c.klog()),
    Verb("show", "print the machine's state as JSON", lambda c, v: c.show()),
)
VERBS = {verb.name: verb for verb in _ALL}
