"""Random sequences of what administrators, tools, guests and the machine do, as plain data for JSON.

They are ``["write", path, text]``, ``["guest", uuid]``, ``["reset", uuid]``, ``["end", uuid]`` and
``["conf", [line, ...]]``: a new configuration of the LPAR, in the words of the rig's ap.conf.
"""

from __future__ import annotations

import random
from typing import Any

from .player import ADAPTERS, BUS, DOMAINS, MATRIX, TYPE, UUIDS

Operation = list[Any]
Sequence = list[Operation]
ALL = "0x" + "f" * 64
TYPES = {0x05: "CEX8C", 0x06: "CEX8P", 0x07: "CEX8A", 0x0A: "CEX7C", 0x0B: "CEX6P", 0x0C: "CEX5A"}
ABSENT_ADAPTER, ABSENT_DOMAIN = 0x30, 0x20
QUEUES = tuple(f"{adapter:02x}.{domain:04x}" for adapter in ADAPTERS for domain in DOMAINS)


def sequence(seed: int, length: int) -> Sequence:
    """Return operations that get somewhere: adapters are released and mdevs made first.

    A third of the seeds uses driver_override, which excludes masks. Another third changes the hardware from
    outside, and another one (de)configures adapters from inside: in the rig the one does not undo the other.
    """
    pick = random.Random(seed)
    flavour = seed % 3
    kinds = [_assign, _assign, _assign, _config, _config, _mdev, _bind, _guest, _guest]
    start: Sequence = [["write", f"{TYPE}/create", UUIDS[0]], ["write", f"{TYPE}/create", UUIDS[1]]]
    if flavour == 0:
        kinds += [_override, _override, _bind]
        for queue in pick.sample(QUEUES, 10):
            start += [
                ["write", f"{BUS}/devices/{queue}/driver_override", "vfio_ap"],
                ["write", f"{BUS}/drivers/cex4queue/unbind", queue],
                ["write", f"{BUS}/drivers_probe", queue],
            ]
    else:
        release = pick.choice(["-5,-6", "-0x0a-0x0c", "\n", "-5-7"])
        start.insert(0, ["write", f"{BUS}/apmask", release])
        kinds += [_mask, _mask, _attribute]
        kinds += [_conf] if flavour == 1 else [_sclp]
    return start + [pick.choice(kinds)(pick) for _ in range(length - len(start))]


def usual_conf() -> list[str]:
    """Return the configuration that a sequence begins with."""
    return _lines(dict.fromkeys(ADAPTERS, ""), DOMAINS, (*DOMAINS, 0x05))


def _lines(adapters: dict[int, str], usage: tuple[int, ...], control: tuple[int, ...]) -> list[str]:
    cards = [f"adapter {number:#04x} {TYPES[number]}{state}" for number, state in adapters.items()]
    lists = (("usage", usage), ("control", control))
    return cards + [f"{word} {','.join(f'{n:#04x}' for n in numbers)}" for word, numbers in lists]


def _conf(pick: random.Random) -> Operation:
    adapters = {number: pick.choice(["", "", " deconf", " chkstop"]) for number in ADAPTERS}
    for number in pick.sample(ADAPTERS, pick.randint(0, 2)):
        del adapters[number]
    usage = tuple(sorted(pick.sample(DOMAINS, pick.randint(2, 4))))
    return ["conf", _lines(adapters, usage, tuple(sorted({*usage, pick.choice(DOMAINS)})))]


def _number(pick: random.Random, number: int) -> str:
    usual = [str(number), hex(number), f"0{number:o}", f"+{number}", f"{number}\n"]
    return pick.choice([*usual, *usual, "256", "08", "", "18446744073709551616"])


def _hex(ids: list[int]) -> str:
    return f"0x{sum(1 << 255 - number for number in ids):064x}"


def _mask(pick: random.Random) -> Operation:
    first = pick.choice((*ADAPTERS, *DOMAINS))
    edits = [f"{pick.choice('+-')}{first},-{pick.choice(DOMAINS):#x}", f"-{first}-{first + pick.randint(-1, 3)}"]
    whole = ["+0-255", ALL, _hex(pick.sample(range(16), 8)), "0x" + "8f" * pick.randint(0, 33), "junk"]
    text = pick.choice(edits + whole) + pick.choice(["\n", ""])
    return ["write", f"{BUS}/{pick.choice(['apmask', 'aqmask'])}", text]


def _assign(pick: random.Random) -> Operation:
    kind = pick.choice(["adapter", "domain", "control_domain"])
    ids = (*ADAPTERS, ABSENT_ADAPTER) if kind == "adapter" else (*DOMAINS, ABSENT_DOMAIN)
    verb = pick.choice(["assign", "assign", "unassign"])
    return ["write", f"{MATRIX}/{pick.choice(UUIDS)}/{verb}_{kind}", _number(pick, pick.choice(ids))]


def _config(pick: random.Random) -> Operation:
    masks = [_hex(pick.sample(ids, pick.randint(0, 3))) for ids in (ADAPTERS, DOMAINS, DOMAINS)]
    text = ",".join(masks) + pick.choice(["\n", "\n", "", ",x", "\b"])
    return ["write", f"{MATRIX}/{pick.choice(UUIDS)}/ap_config", text]


def _mdev(pick: random.Random) -> Operation:
    uuid = pick.choice(UUIDS)
    create: Operation = ["write", f"{TYPE}/create", pick.choice([uuid, uuid + "\n", uuid[:-1], uuid.upper()])]
    return pick.choice([create, create, ["write", f"{MATRIX}/{uuid}/remove", pick.choice("011x")]])


def _bind(pick: random.Random) -> Operation:
    driver = f"{BUS}/drivers/{pick.choice(['vfio_ap', 'cex4queue'])}"
    where = pick.choice([f"{driver}/bind", f"{driver}/unbind", f"{BUS}/drivers_probe"])
    return ["write", where, pick.choice(QUEUES)]


def _attribute(pick: random.Random) -> Operation:
    card = f"{BUS}/devices/card{pick.choice(ADAPTERS):02x}"
    queue = f"{BUS}/devices/{pick.choice(QUEUES)}"
    return pick.choice(
        [
            ["write", f"{card}/online", pick.choice("01")],
            ["write", f"{queue}/online", pick.choice("01")],
            ["write", f"{queue}/reset", "1"],
            ["write", f"{BUS}/scans", "1"],
            ["write", f"{BUS}/ap_domain", str(pick.choice((*DOMAINS, ABSENT_DOMAIN, -1)))],
        ]
    )


def _sclp(pick: random.Random) -> Operation:
    return ["write", f"{BUS}/devices/card{pick.choice(ADAPTERS):02x}/config", pick.choice(["0", "0\n", "1", "2"])]


def _override(pick: random.Random) -> Operation:
    name = pick.choice(["vfio_ap", "vfio_ap\n", "cex4queue", "\n", "nobody"])
    return ["write", f"{BUS}/devices/{pick.choice(QUEUES)}/driver_override", name]


def _guest(pick: random.Random) -> Operation:
    return [pick.choice(["guest", "guest", "reset", "end"]), pick.choice(UUIDS)]
