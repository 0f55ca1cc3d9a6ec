"""APMatrix: a named AP configuration with one UUID, used by at most one VM at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from vfio_ap.matrix import Matrix
from vfio_ap_api.base import (
    REGISTERS_RULE,
    ConditionList,
    IdItem,
    IdList,
    Model,
    Observed,
    ids_of,
    known_registers,
    worded,
)
from vfio_ap_api.crd import Column, Kind, Rule

_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Uuid: TypeAlias = Annotated[
    str,
    Field(
        max_length=36,
        pattern=_UUID,
        json_schema_extra=worded(_UUID, "a UUID in lower case: 8-4-4-4-12 of 0-9 and a-f, with hyphens"),
    ),
]
Placement = Literal["OnDemand", "Everywhere"]
LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)]
NamespaceName: TypeAlias = Annotated[
    str,
    Field(
        max_length=63,
        pattern=_LABEL,
        json_schema_extra=worded(_LABEL, "a namespace's name: at most 63 of a-z, 0-9 and -"),
    ),
]


_NAMES_NODES = "a variant names the machines or the labels of the nodes that it is for"
_PATTERN = "^0x([0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{64})$"
KeyPattern: TypeAlias = Annotated[
    str,
    Field(
        max_length=66,
        pattern=_PATTERN,
        json_schema_extra=worded(_PATTERN, "a verification pattern: 0x and 16, 32 or 64 of 0-9 and a-f"),
    ),
]


# Without the rule that an id is not named twice: in a list of lists the API server finds it too dear. The
# operator refuses such a matrix.
_Ids: TypeAlias = Annotated[
    list[IdItem], Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "atomic"})
]


class Variant(Model):
    """Other ids of the same matrix, for the nodes that it names."""

    machines: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=64)] = Field(
        default_factory=list,
        description="Machines that it is for, as status.machine.id of APNodes says them; empty means any.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    node_selector: LabelMap = Field(
        default_factory=dict,
        description="Labels of the nodes that it is for; empty means any.",
        json_schema_extra={"x-kubernetes-map-type": "atomic"},
    )
    adapters: Annotated[_Ids, Field(min_length=1, description="Written as spec.adapters is.")]
    domains: Annotated[_Ids, Field(min_length=1, description="Written as spec.domains is.")]
    control_domains: _Ids = Field(default_factory=list, description="Written as spec.controlDomains is.")

    def matrix(self, field: str) -> Matrix:
        """Return adapters x domains. Raises RefusedError that names ``field``, the variant's place in the spec."""
        return Matrix(
            ids_of(list(self.adapters), f"{field}.adapters"),
            ids_of(list(self.domains), f"{field}.domains"),
            ids_of(list(self.control_domains), f"{field}.controlDomains"),
        )


class APMatrixSpec(Model):
    """What an administrator writes."""

    adapters: Annotated[
        IdList,
        Field(
            min_length=1,
            description="Adapters (0-255): numbers, '0x..' strings or ranges such as '4-7'. "
            "No leading zeros: YAML reads an unquoted 010 as 8.",
        ),
    ]
    domains: Annotated[
        IdList,
        Field(min_length=1, description="Usage domains (0-255), written as adapters are."),
    ]
    control_domains: IdList = Field(
        default_factory=list,
        description="Domains that the guest may administer. The usage domains are not included by themselves.",
    )
    uuid: Uuid | None = Field(
        default=None,
        description="UUID of the mediated device, the same on every node, lower case. Assigned once and kept in "
        "status.uuid when it is left out. It never changes.",
    )
    node_selector: LabelMap = Field(
        default_factory=dict,
        description="Labels of the nodes that may hold the matrix; empty means every node with an AP bus.",
        json_schema_extra={"x-kubernetes-map-type": "atomic"},
    )
    placement: Placement = Field(
        default="OnDemand",
        description="OnDemand makes the mediated device on the node where a VM needs it; Everywhere keeps it on "
        "every chosen node.",
    )
    allowed_namespaces: Annotated[list[NamespaceName], Field(max_length=256)] = Field(
        description="Namespaces whose VMs may use the matrix. Required: nothing is open by default.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    adopt_existing: bool = Field(
        default=False,
        description="Take over a mediated device with spec.uuid that somebody else made, if and only if its "
        "configuration equals this one.",
    )
    expected_keys: dict[str, KeyPattern] = Field(
        default_factory=dict,
        max_length=11,
        description="Master key verification patterns that the queues must have wherever the matrix is, by "
        "register, as status.keySets of APNodes shows them: 'AES CUR': 0x0123456789abcdef. What a difference "
        "means is for masterKeys of the APMigrationPolicy to say.",
        json_schema_extra={"x-kubernetes-validations": [REGISTERS_RULE]},
    )
    variants: Annotated[list[Variant], Field(max_length=16)] = Field(
        default_factory=list,
        description="Other ids for other machines or nodes, under the same UUID; the first that is for a node "
        "counts. A VM gets from one to another when its device is taken out and in again (Reattach, Restart), "
        "never by a live migration.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    _known_registers = field_validator("expected_keys")(known_registers)

    @field_validator("variants")
    @classmethod
    def _for_some_nodes(cls, variants: list[Variant]) -> list[Variant]:
        if any(not (variant.machines or variant.node_selector) for variant in variants):
            raise ValueError(_NAMES_NODES)
        return variants

    def matrix(self) -> Matrix:
        """Return adapters x domains. Raises RefusedError for ids that the schema could not refuse."""
        return Matrix(
            ids_of(list(self.adapters), "spec.adapters"),
            ids_of(list(self.domains), "spec.domains"),
            ids_of(list(self.control_domains), "spec.controlDomains"),
        )


class NodeState(Observed):
    """The matrix on one node, as the node's agent read it back."""

    name: str
    state: Literal["Ready", "Available", "Pending", "Failed", "Refused"]
    reason: str = ""
    message: Annotated[str, Field(max_length=1024)] = ""
    in_use: bool = False


class APMatrixStatus(Observed):
    """What the operator knows of it."""

    observed_generation: int = 0
    uuid: str = ""
    adapters: str = Field(default="", description="Adapters as ranges.")
    domains: str = Field(default="", description="Usage domains as ranges.")
    state: str = Field(default="", description="One word, with its reason where there is one.")
    ready: str = Field(default="", description="Nodes that have or could have it / nodes that should.")
    used_by: str = ""
    nodes: Annotated[
        list[NodeState],
        Field(
            max_length=1000,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    conditions: ConditionList = Field(default_factory=list)


class APMatrix(Observed):
    """A named AP configuration: adapters x domains under one UUID, for the VMs of some namespaces."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: APMatrixSpec
    status: APMatrixStatus = Field(default_factory=APMatrixStatus)


KIND = Kind(
    model=APMatrix,
    plural="apmatrices",
    short_names=("apm",),
    namespaced=False,
    columns=(
        Column("UUID", "string", ".status.uuid", "UUID of the mediated device on every node"),
        Column("Adapters", "string", ".status.adapters"),
        Column("Domains", "string", ".status.domains"),
        Column("Ready", "string", ".status.ready", "nodes that have it / nodes that should"),
        Column("Used-By", "string", ".status.usedBy"),
        Column("State", "string", ".status.state"),
        Column("Age", "date", ".metadata.creationTimestamp"),
        Column("Control", "string", ".spec.controlDomains", priority=1),
        Column("Namespaces", "string", ".spec.allowedNamespaces", priority=1),
    ),
    rules=(
        Rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
            "the name becomes part of a resource and a label: at most 63 of a-z, 0-9 and -, no dots",
            ".metadata",
        ),
        Rule(
            "!has(oldSelf.spec.uuid) || (has(self.spec.uuid) && self.spec.uuid == oldSelf.spec.uuid)",
            "spec.uuid never changes: VMs and nodes know the matrix by it; make a new APMatrix instead",
            ".spec.uuid",
        ),
        Rule(
            "!has(self.spec.uuid) || !has(self.status) || !has(self.status.uuid) || self.status.uuid == '' || "
            "self.spec.uuid == self.status.uuid",
            "spec.uuid differs from status.uuid, which was assigned already and never changes",
            ".spec.uuid",
        ),
        Rule(
            "!has(oldSelf.status) || !has(oldSelf.status.uuid) || oldSelf.status.uuid == '' || "
            "(has(self.status) && has(self.status.uuid) && self.status.uuid == oldSelf.status.uuid)",
            "status.uuid was assigned already and never changes",
            ".status.uuid",
        ),
        Rule(
            "!has(self.spec.adoptExisting) || !self.spec.adoptExisting || has(self.spec.uuid)",
            "spec.adoptExisting needs spec.uuid, the UUID of the existing device",
            ".spec.adoptExisting",
        ),
        Rule(
            "!has(self.spec.variants) || self.spec.variants.all(v, (has(v.machines) && size(v.machines) > 0) || "
            "(has(v.nodeSelector) && size(v.nodeSelector) > 0))",
            _NAMES_NODES,
            ".spec.variants",
        ),
    ),
)
