"""The hardware behind the bus: what QCI and TAPQ would answer. Changed from outside, seen by bus scans only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from vfio_ap_sim.kernel import machine as config
from vfio_ap_sim.kernel.bitmap import has

_MODES = {"A": "accel", "C": "cca", "P": "ep11"}
_USUAL_FUNCTIONS = {"accel": 0xEB800000, "cca": 0x93800000, "ep11": 0x87800000}
"""SMC AN HF, S D N HF and S X N HF in lszcrypt's letters (1.5)."""
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
    adapters: dict[int, Adapter] = field(default_factory=dict)

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

    def answers(self, adapter: int, domain: int) -> bool:
        """Whether an APQN is in a state to do crypto."""
        card = self.adapters.get(adapter)
        return card is not None and has(self.usage, domain) and card.configured and not card.checkstopped


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
    )
    for adapter in machine.adapters:
        hardware.plug(adapter)
    return hardware


def _serial(own: str, adapter_type: str) -> str:
    """Return 8 characters for CCA, 16 for EP11 (C-14)."""
    digest = hashlib.sha256(own.encode()).hexdigest().upper()
    return f"9{digest[:7]}" if adapter_type.endswith("C") else digest[:16]
