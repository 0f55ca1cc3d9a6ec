"""APMigrationPolicy: how VMs with matching matrices move."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from vfio_ap_api.apmatrix import LabelMap
from vfio_ap_api.base import ConditionList, Model, Observed
from vfio_ap_api.crd import Column, Kind, Rule

ModeName = Literal["Live", "Reattach", "Restart"]
Seconds: TypeAlias = Annotated[int, Field(ge=5, le=86400)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1000)]


class Budgets(Model):
    """How many evacuations may be under way at once; KubeVirt's own limits hold beside these."""

    per_source: Count = Field(default=2, description="Moves away from one node.")
    per_target: Count = Field(default=2, description="Moves to one node.")
    cluster: Count = Field(default=5, description="Moves in the whole cluster, of VMs under this policy.")


class TimeLimits(Model):
    """After how many seconds a wait is given up, and what was done for it is undone."""

    prepare: Seconds = Field(
        default=180,
        description="For a node to hold the device and to offer it. Then the next node is tried.",
    )
    hold: Seconds = Field(
        default=300,
        description="For a migration's target pod, from its start until the migration may begin. Then the "
        "migration is cancelled and the VM stays where it is.",
    )


class APMigrationPolicySpec(Model):
    """What an administrator writes."""

    selector: LabelMap = Field(
        default_factory=dict,
        description="Labels of the APMatrix objects that it is for; empty means all. Where two policies select a "
        "matrix, the one with more labels stands, then the older one, then the first by name.",
        json_schema_extra={"x-kubernetes-map-type": "atomic"},
    )
    modes: Annotated[
        list[ModeName],
        Field(
            default=["Live"],
            min_length=1,
            max_length=3,
            description="How a VM may move, the preferred way first. Live: the kernel migrates the device. "
            "Reattach: the device is unplugged, the VM migrated, the device plugged in again. Restart: the VM is "
            "stopped, and started where the device was made beforehand. Verdicts say for each whether it is open; "
            "Reattach is not carried out yet.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ]
    adapter_type: Literal["SameOrNewer", "Same"] = Field(
        default="SameOrNewer", description="What the target's adapters may be, compared with the source's."
    )
    master_keys: Literal["Require", "Warn", "Ignore"] = Field(
        default="Warn",
        description="Whether the master keys of both sides must be known to be equal. The kernel does not look.",
    )
    evacuation: Literal["Operator", "KubeVirt"] = Field(
        default="Operator",
        description="Who moves VMs off a drained node. Operator: a target is proven and prepared first. KubeVirt: "
        "KubeVirt's evacuation controller asks, the gate catches its target pod. A VM keeps what it started with.",
    )
    budgets: Budgets = Field(default_factory=Budgets)
    time_limits: TimeLimits = Field(default_factory=TimeLimits)
    on_failure: Literal["Retry", "Stay"] = Field(
        default="Retry",
        description="After a failed evacuation. Retry: try again, KubeVirt lets each try wait longer. Stay: the "
        "VM stays until somebody moves it.",
    )
    keep_source: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=0, description="Seconds that the source keeps its device after a move."
    )


class APMigrationPolicyStatus(Observed):
    """What the operator says of it."""

    observed_generation: int = 0
    state: str = Field(default="", description="One word, with its reason where there is one.")
    matrices: int = Field(default=0, description="Matrices that it stands for.")
    conditions: ConditionList = Field(default_factory=list)


class APMigrationPolicy(Observed):
    """How VMs with matching matrices move: allowed modes, compatibility, key checks, budgets, time limits."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: APMigrationPolicySpec
    status: APMigrationPolicyStatus = Field(default_factory=APMigrationPolicyStatus)


KIND = Kind(
    model=APMigrationPolicy,
    plural="apmigrationpolicies",
    short_names=("apmp",),
    namespaced=False,
    columns=(
        Column("Modes", "string", ".spec.modes"),
        Column("Keys", "string", ".spec.masterKeys"),
        Column("Evacuation", "string", ".spec.evacuation"),
        Column("Matrices", "integer", ".status.matrices", "matrices that it stands for"),
        Column("State", "string", ".status.state"),
        Column("Age", "date", ".metadata.creationTimestamp"),
    ),
    rules=(
        Rule(
            "!(self.spec.evacuation == 'KubeVirt') || self.spec.modes.exists(m, m == 'Live')",
            "KubeVirt evacuates by live migration only: add Live to spec.modes, or let the operator evacuate",
            ".spec.modes",
        ),
    ),
)
