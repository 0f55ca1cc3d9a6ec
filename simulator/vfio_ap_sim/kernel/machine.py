"""The machine file: which machine, LPAR and adapters to model. Validated here, and only here.

```yaml
name: lpar1
machine: {manufacturer: IBM, type: "3931", model: A01, sequence: "00000000000123AB", lpar: LPAR1}
adapters:
  - {id: 5, type: CEX8C}
  - {id: 6, type: CEX8P, keys: {default: payments, "0x11": payments-next}}
usageDomains: "4,6,0xab"
```

Master keys have names: queues with the same key name have the same verification patterns, on any machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from vfio_ap_sim.kernel.bitmap import ALL, BITS, edit, ids_of, mask_of
from vfio_ap_sim.kernel.errors import ControlError, SysfsError


def parse_id(text: str | int) -> int:
    """Return an adapter or domain id of ``5`` or ``"0xab"``. Raises ValueError."""
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is not an id")
    try:
        number = int(text, 0) if isinstance(text, str) else int(text)
    except (ValueError, TypeError):
        raise ValueError(f"{text!r} is not a number such as 5 or 0xab") from None
    if not 0 <= number < BITS:
        raise ValueError(f"id {number} is outside 0 to {BITS - 1}")
    return number


def parse_id_list(text: str | int | list[str | int] | None) -> int:
    """Return the mask of an id list such as ``"4,6,0x10-0x1f"``. Raises ValueError."""
    if text is None or text == "":
        return 0
    if isinstance(text, int):
        return mask_of([parse_id(text)])
    parts = text.split(",") if isinstance(text, str) else text
    mask = 0
    for part in parts:
        first, dash, last = str(part).strip().partition("-")
        low, high = parse_id(first), parse_id(last if dash else first)
        if high < low:
            raise ValueError(f"{part!r} runs backwards")
        mask |= (1 << high + 1) - (1 << low)
    return mask


def render_id_list(mask: int) -> str:
    """Return a mask as a list of decimal ids."""
    return ",".join(str(number) for number in ids_of(mask))


def _boot_mask(text: str | None) -> str | None:
    """Check the value of an ``ap.apmask=`` boot parameter (B-17)."""
    if text is not None:
        try:
            edit(0, text)
        except SysfsError:
            raise ValueError(f"{text!r} is not in the kernel's mask grammar") from None
    return text


Id = Annotated[int, BeforeValidator(parse_id)]
IdMask = Annotated[int, BeforeValidator(parse_id_list)]
BootMask = Annotated[str | None, AfterValidator(_boot_mask)]
AdapterType = Annotated[str, Field(pattern=r"^CEX[4-8][ACP]$")]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Identity(_Part):
    """What /proc/sysinfo says about machine and LPAR."""

    manufacturer: str = "IBM"
    type: str = "3931"
    model: str = "A01"
    sequence: str = "0000000000012345"
    lpar: str = "LPAR1"


class Adapter(_Part):
    """One crypto adapter that the LPAR has."""

    id: Id
    type: AdapterType = "CEX8C"
    functions: int | None = Field(default=None, ge=0, lt=1 << 32)
    """The ``ap_functions`` word; left out, the usual one of the type."""
    depth: int = Field(default=8, ge=1, le=256)
    serial: str | None = None
    deconfigured: bool = False
    checkstopped: bool = False
    keys: dict[str, str] = Field(default_factory=dict)
    """Domain id, or ``default``, to key name; left out, keys of this adapter alone."""

    @model_validator(mode="before")
    @classmethod
    def _one_name_for_all(cls, value: Any) -> Any:  # noqa: ANN401  # raw YAML
        if isinstance(value, dict) and isinstance(value.get("keys"), str):
            return {**value, "keys": {"default": value["keys"]}}
        if isinstance(value, dict) and isinstance(value.get("keys"), dict):
            return {**value, "keys": {str(domain): name for domain, name in value["keys"].items()}}
        return value

    @model_validator(mode="after")
    def _keys_name_domains(self) -> Adapter:
        for domain in self.keys:
            if domain != "default":
                parse_id(domain)
        return self


class Knobs(_Part):
    """How the modelled hardware and its guests behave."""

    reset_ms: int = Field(default=0, ge=0)
    """How long a queue reset takes; at 0 it is done at once."""
    guest_obeys: bool = True
    """Whether guests give a device back when the kernel asks for it (V-33)."""


class Machine(_Part):
    """One LPAR and its Linux."""

    name: str = "lpar1"
    machine: Identity = Identity()
    adapters: tuple[Adapter, ...] = ()
    usage_domains: IdMask = 0
    control_domains: IdMask | None = None
    """Left out: the usage domains."""
    max_adapter: Id = 255
    max_domain: Id = 255
    knobs: Knobs = Knobs()
    vfio_ap_loaded: bool = True
    secure_guest: bool = False
    """Whether this Linux is itself a Secure Execution guest; changes only whether its guests can migrate (L-6)."""
    apmask: BootMask = None
    aqmask: BootMask = None

    @model_validator(mode="after")
    def _consistent(self) -> Machine:
        seen: set[int] = set()
        for adapter in self.adapters:
            if adapter.id in seen:
                raise ValueError(f"adapter {adapter.id} appears twice")
            if adapter.id > self.max_adapter:
                raise ValueError(f"adapter {adapter.id} is above maxAdapter {self.max_adapter}")
            seen.add(adapter.id)
        highest = (self.usage_domains | (self.control_domains or 0)).bit_length() - 1
        if highest > self.max_domain:
            raise ValueError(f"domain {highest} is above maxDomain {self.max_domain}")
        return self

    def boot_masks(self) -> tuple[int, int]:
        """Return apmask and aqmask as they are after boot: a given one starts from all zero (B-17)."""
        return tuple(ALL if text is None else edit(0, text) for text in (self.apmask, self.aqmask))  # type: ignore[return-value]


def machine_from(document: object) -> Machine:
    """Return the machine of a parsed YAML document. Raises ControlError that names each bad field."""
    try:
        return Machine.model_validate(document or {})
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(step) for step in problem["loc"]) or "machine"
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
        raise ControlError("the machine file is not valid: " + "; ".join(lines)) from None


def load_machine(path: Path) -> Machine:
    """Read a machine file. Raises ControlError."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ControlError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ControlError(f"{path} is not YAML: {error}") from None
    return machine_from(document)
