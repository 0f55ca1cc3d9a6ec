"""The hardware behind the bus: what QCI and TAPQ would answer. Changed from outside, seen by bus scans only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from vfio_ap_sim.kernel import machine as config
from vfio_ap_sim.kernel.bitmap import has

_MODES = {"A": "accel", "C": "cca", "P": "ep11"}
_USUAL_FUNCTIONS = {"accel": 0xEB800000, "cca": 0x93800000, "ep11": 0x87800000}
"""SMC AN HF, S D N HF and S X N HF in lszcrypt's letters (1.5)."""
NORMAL, NOT_AVAILABLE, RESET_IN_PROGRESS, DECONFIGURED, CHECKSTOPPED, BUSY = range(6)
"""Response codes of TAPQ and ZAPQ (``ap.h``)."""
_MESSAGE_UNITS = 3
"""Longest message in pages of 4096 bytes: 12288 (C-10)."""
BIND_STATE = 0x0000C000
"""Bits that the card's word does not have (C-4)."""


@dataclass(slots=True)
class Adapter:
    """One adapter as it is now."""

    id: int
    type: str
    """``CEX8C`` and the like."""
    functions: int
    depth: int
    serial: str
    configured: bool
    checkstopped: bool
    key_names: dict[int, str]
    default_key: str

    @property
    def mode(self) -> str:
        """``accel``, ``cca`` or ``ep11``."""
        return _MODES[self.type[-1]]

    @property
    def hwtype(self) -> int:
        """10 to 14 for CEX4 to CEX8 (C-1)."""
        return 6 + int(self.type[3])

    def key_name(self, domain: int) -> str:
        """Name of the master keys that a domain of this adapter holds."""
        return self.key_names.get(domain, self.default_key)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a queue answers TAPQ."""

    code: int
    asynchronous: bool = False

    @property
    def informs(self) -> bool:
        """Whether the word that comes with it can be used (``get_hardware_info_for_queue``)."""
        return self.asynchronous or (self.code <= BUSY and self.code != NOT_AVAILABLE)


@dataclass(frozen=True, slots=True)
class Qci:
    """The answer to QCI: what this Linux may use."""

    adapters: int
    usage: int
    control: int


def usual_functions(adapter_type: str) -> int:
    """Return the ``ap_functions`` word that an adapter of this type usually has."""
    return _USUAL_FUNCTIONS[_MODES[adapter_type[-1]]]


@dataclass(slots=True)
class Hardware:
    """The LPAR's crypto configuration."""

    name: str
    max_adapter: int
    max_domain: int
    usage: int
    control: int
    reset_us: int
    secure_guest: bool = False
    """Whether this Linux is itself a Secure Execution guest, which cannot migrate guests of its own (L-6)."""
    adapters: dict[int, Adapter] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    """Queues that are made to answer TAPQ otherwise than their state says, by APQN."""

    def plug(self, spec: config.Adapter) -> None:
        """Add an adapter."""
        names = {config.parse_id(domain): name for domain, name in spec.keys.items() if domain != "default"}
        own = f"{self.name}/{spec.id:02x}"
        self.adapters[spec.id] = Adapter(
            id=spec.id,
            type=spec.type,
            functions=usual_functions(spec.type) if spec.functions is None else spec.functions,
            depth=spec.depth,
            serial=spec.serial or _serial(own, spec.type),
            configured=not spec.deconfigured,
            checkstopped=spec.checkstopped,
            key_names=names,
            default_key=spec.keys.get("default", own),
        )

    def qci(self) -> Qci:
        """Return what QCI answers now."""
        adapters = 0
        for number in self.adapters:
            adapters |= 1 << number
        return Qci(adapters, self.usage, self.control)

    def works(self, adapter: int, domain: int) -> bool:
        """Whether an APQN is in a state to do crypto."""
        card = self.adapters.get(adapter)
        return card is not None and has(self.usage, domain) and card.configured and not card.checkstopped

    def tapq(self, apqn: int) -> Answer:
        """Return how an APQN answers TAPQ now."""
        forced = self.answers.get(apqn)
        if forced is not None:
            return forced
        card = self.adapters.get(apqn >> 8)
        if card is None or not has(self.usage, apqn & 255):
            return Answer(NOT_AVAILABLE)
        if not card.configured:
            return Answer(DECONFIGURED)
        return Answer(CHECKSTOPPED if card.checkstopped else NORMAL)

    def word(self, apqn: int, *, facilities: bool) -> int:
        """Return the word that TAPQ gives (``struct ap_tapq_hwinfo``); without the T bit its upper half is 0."""
        card = self.adapters.get(apqn >> 8)
        if card is None:
            return 0
        lower = card.hwtype << 24 | self.max_domain << 16 | _MESSAGE_UNITS << 8 | card.depth - 1
        return (card.functions << 32 if facilities else 0) | lower


def hardware_of(machine: config.Machine) -> Hardware:
    """Return the hardware that a machine file describes."""
    control = machine.usage_domains if machine.control_domains is None else machine.control_domains
    hardware = Hardware(
        name=machine.name,
        max_adapter=machine.max_adapter,
        max_domain=machine.max_domain,
        usage=machine.usage_domains,
        control=control,
        reset_us=machine.knobs.reset_ms * 1000,
        secure_guest=machine.secure_guest,
    )
    for adapter in machine.adapters:
        hardware.plug(adapter)
    return hardware


def _serial(own: str, adapter_type: str) -> str:
    """Return 8 characters for CCA, 16 for EP11 (C-14)."""
    digest = hashlib.sha256(own.encode()).hexdigest().upper()
    return f"9{digest[:7]}" if adapter_type.endswith("C") else digest[:16]
