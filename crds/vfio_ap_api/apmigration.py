"""APMigration: one move of one VM, asked for by a user or seen by the operator."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from vfio_ap.matrix import Matrix
from vfio_ap_api.apmigrationpolicy import ModeName
from vfio_ap_api.apnode import Ids
from vfio_ap_api.base import ConditionList, Model, Observed
from vfio_ap_api.crd import Column, Kind, Rule

Phase = Literal[
    "Checking",
    "Checked",
    "Refused",
    "Waiting",
    "Preparing",
    "Holding",
    "Moving",
    "Restarting",
    "Succeeded",
    "Alarm",
    "Failed",
]
"""``Checked``, ``Refused``, ``Succeeded``, ``Alarm`` and ``Failed`` are final. ``Alarm``: the VM has moved, and
what the target's kernel holds is not what was meant."""
Name: TypeAlias = Annotated[str, Field(max_length=253)]
Sentence: TypeAlias = Annotated[str, Field(max_length=4096)]


class APMigrationSpec(Model):
    """What is asked for."""

    vm: Annotated[
        str, Field(min_length=1, max_length=253, description="Name of the VM, in the object's own namespace.")
    ]
    node: Name = Field(default="", description="Where to; empty lets the operator choose.")
    dry_run: bool = Field(default=False, description="Say where the VM could move, and move nothing.")


class GuestMatrix(Observed):
    """What a guest has of a matrix: adapters, domains and control domains that were not filtered away."""

    adapters: Ids = ""
    domains: Ids = ""
    control_domains: Ids = ""

    def matrix(self) -> Matrix:
        """Return the matrix. Raises RefusedError for a text that is not a set of ids."""
        return Matrix.parse(self.adapters, self.domains, self.control_domains)


class NodeVerdict(Observed):
    """Whether the VM could move to one node."""

    name: str
    mode: str = Field(default="", description="The preferred way that is open; empty when none is.")
    reason: str = ""
    message: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="Why not, the first thing to mend, with its remedy."
    )
    warnings: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=16)] = Field(
        default_factory=list
    )


class PhaseTime(Observed):
    """When a phase was entered."""

    phase: Phase
    entered: str = Field(json_schema_extra={"format": "date-time"})


class APMigrationStatus(Observed):
    """How the move stands."""

    observed_generation: int = 0
    phase: Phase | None = None
    line: Sentence = Field(default="", description="What happens now, in one line.")
    matrix: str = ""
    uuid: str = ""
    source: str = Field(default="", description="Node that the VM leaves.")
    target: str = Field(default="", description="Node that the VM goes to, once it is chosen.")
    mode: ModeName | None = None
    asked_by: str = Field(
        default="", description="Who asked for the move: user, evacuation, workload update, or another."
    )
    migration: str = Field(default="", description="Name of the VirtualMachineInstanceMigration.")
    migration_uid: str = ""
    instance: str = Field(default="", description="UID of the VMI that is stopped, for a move by a restart.")
    guest: GuestMatrix | None = Field(
        default=None, description="What the guest had when it was let go, and must have on the target."
    )
    nodes: Annotated[
        list[NodeVerdict],
        Field(
            max_length=100,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    phases: Annotated[
        list[PhaseTime], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    reason: str = ""
    message: Sentence = Field(default="", description="What failed or what is waited for.")
    remedy: Sentence = ""
    conditions: ConditionList = Field(default_factory=list)


class APMigration(Observed):
    """One move of one VM with a matrix: verdict per node, phase, times, what failed and the remedy."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: APMigrationSpec
    status: APMigrationStatus = Field(default_factory=APMigrationStatus)


KIND = Kind(
    model=APMigration,
    plural="apmigrations",
    short_names=("apmig",),
    namespaced=True,
    columns=(
        Column("VM", "string", ".spec.vm"),
        Column("Matrix", "string", ".status.matrix"),
        Column("From", "string", ".status.source"),
        Column("To", "string", ".status.target"),
        Column("Phase", "string", ".status.phase"),
        Column("Says", "string", ".status.line"),
        Column("Age", "date", ".metadata.creationTimestamp"),
        Column("Mode", "string", ".status.mode", priority=1),
        Column("By", "string", ".status.askedBy", priority=1),
        Column("Remedy", "string", ".status.remedy", priority=1),
    ),
    rules=(
        Rule(
            "oldSelf.spec == self.spec",
            "a move is what it was asked for as: make another APMigration",
            ".spec",
        ),
    ),
)
