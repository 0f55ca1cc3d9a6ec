"""What every model of the API shares: camelCase names, no unknown fields, conditions and id lists."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.idset import IdSet, parse_span

GROUP = "ap.s390x.io"
VERSION = "v1alpha1"

_ID = "(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5]|0x[0-9a-fA-F]{1,2})"
ID_RULE = {
    "rule": f"type(self) == int ? (self >= 0 && self <= 255) : self.matches('^{_ID}(-{_ID})?$')",
    "message": "an id is 0 to 255: decimal (5), hexadecimal in quotes ('0xab') or a range ('4-7'); "
    "no leading zero, which the kernel reads as octal",
}
"""CEL rule of one element of an id list; ``vfio_ap.idset`` has the same grammar for what CEL cannot say."""


NO_REPEAT = {
    "rule": "self.all(a, self.exists_one(b, string(a) == string(b)))",
    "message": "an id is named twice",
}
"""CEL rule of an id list; ids that meet in ranges or in another notation are refused by ``ids_of``."""


REGISTER = "^((AES|APKA|ASYM) (NEW|CUR|OLD)|WK (NEW|CUR))$"
"""Name of a master key register (Q-15, Q-16)."""
REGISTERS_RULE: dict[str, Any] = {
    "rule": f"self.all(register, register.matches('{REGISTER}'))",
    "message": "a register is AES, APKA or ASYM with NEW, CUR or OLD (CCA), or WK with CUR or NEW (EP11)",
}
"""CEL rule of a map by register; ``known_registers`` says the same here."""


def known_registers(patterns: dict[str, str]) -> dict[str, str]:
    """Return the patterns. Raises ValueError, as pydantic wants it, for a key that is no register."""
    if unknown := [register for register in patterns if not re.fullmatch(REGISTER, register)]:
        raise ValueError(f"{unknown[0]!r}: {REGISTERS_RULE['message']}")
    return patterns


def worded(pattern: str, message: str) -> dict[str, Any]:
    """Return the schema extension that says a refused pattern in words; ``pattern`` has no single quotes."""
    return {"x-kubernetes-validations": [{"rule": f"self.matches('{pattern}')", "message": message}]}


class Model(BaseModel):
    """Base of all models: fields in camelCase, unknown ones refused, instances frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, defer_build=True
    )

    def document(self) -> dict[str, Any]:
        """Return the JSON document, without fields that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Observed(Model):
    """Base of what is read from the API server: fields of a newer version are ignored, not refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, defer_build=True
    )


IdItem: TypeAlias = Annotated[
    int | str,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": 9,  # 0x00-0xff; without it the API server estimates the rule too dear
            "x-kubernetes-validations": [ID_RULE],
        }
    ),
]
IdList: TypeAlias = Annotated[
    list[IdItem],
    Field(
        max_length=256,
        json_schema_extra={"x-kubernetes-list-type": "atomic", "x-kubernetes-validations": [NO_REPEAT]},
    ),
]


def ids_of(items: list[int | str], field: str) -> IdSet:
    """Return the set that an id list means. Raises RefusedError naming the field."""
    try:
        bits = 0
        for item in items:
            span = IdSet.of(item) if isinstance(item, int) else parse_span(item)
            if bits & span.bits:
                twice = IdSet(bits & span.bits)
                raise RefusedError(Refusal("DuplicateId", field, f"{twice} is named twice", "name each id once"))
            bits |= span.bits
    except RefusedError as error:
        inner = error.refusal
        text = inner.message if inner.subject == field else f"{inner.subject} {inner.message}"
        raise RefusedError(Refusal(inner.reason, field, text, inner.remedy)) from None
    return IdSet(bits)


class Condition(Observed):
    """A condition in the usual form; ``type`` is the key of the list."""

    type: str = Field(max_length=64)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=128)
    message: str = Field(default="", max_length=4096)
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    observed_generation: int = 0


ConditionList: TypeAlias = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
