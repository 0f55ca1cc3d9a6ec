"""APMatrix: a named AP configuration with one UUID, used by at most one VM at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from vfio_ap.matrix import Matrix
from vfio_ap_api.base import ConditionList, IdList, Model, Observed, ids_of, worded
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
    ),
)
