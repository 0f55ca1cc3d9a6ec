"""APNode: what one node shall hold (spec, the operator's) and what it has and can do (status, the agent's).

A full machine of 60 adapters x 85 domains has 5,100 queues; its status stays under 64 KiB because queues are
grouped by adapter, ids are written as ranges and each distinct set of master keys appears once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vfio_ap.matrix import Matrix
from vfio_ap_api.apmatrix import Uuid
from vfio_ap_api.base import REGISTERS_RULE, ConditionList, Model, Observed, known_registers
from vfio_ap_api.crd import Column, Kind

Ids = Annotated[str, Field(max_length=1024)]
"""A set of ids as ranges, ``4-6,171``."""
LOGGED_DEVICES, LOGGED_LINES, LOGGED_LENGTH = 8, 8, 200
"""Most devices, lines of a device and characters of a line of the kernel's log that a status tells."""


class DesiredMdev(Model):
    """One mediated device that the node shall hold."""

    uuid: Uuid
    matrix: Annotated[str, Field(max_length=63, description="Name of the APMatrix.")]
    adapters: Ids
    domains: Ids
    control_domains: Ids = ""
    granted: bool = Field(
        default=False, description="Whether the node's agent offers it to kubelet as ap.s390x.io/<matrix>."
    )
    adopt: bool = Field(default=False, description="Take over an equal device that somebody else made.")
    frozen: bool = Field(
        default=False,
        description="A move is in flight: the device and the mask bits of its queues are left as they are.",
    )
    migratable: bool = Field(
        default=False,
        description="Whether the attribute migratable of the device is set, where the kernel has one; "
        "frozen does not hold it back.",
    )

    def configuration(self) -> Matrix:
        """Return the wanted configuration. Raises RefusedError for a text that is not a set of ids."""
        return Matrix.parse(self.adapters, self.domains, self.control_domains)


class ReservedQueues(Model):
    """Queues that stay with the host whatever matrices want."""

    adapters: Ids
    domains: Ids

    def matrix(self) -> Matrix:
        """Return the queues. Raises RefusedError for a text that is not a set of ids."""
        return Matrix.parse(self.adapters, self.domains)


Pattern = Annotated[str, Field(pattern="^0x([0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{64})$", max_length=66)]


class AttestedKeys(Model):
    """Master keys that an administrator vouches for, of queues whose keys cannot be read (Q-17)."""

    adapters: Ids
    domains: Ids
    patterns: dict[str, Pattern] = Field(
        min_length=1,
        max_length=11,
        description="Verification patterns by register, as in status.keySets: 'AES CUR': 0x0123456789abcdef.",
        json_schema_extra={"x-kubernetes-validations": [REGISTERS_RULE]},
    )

    _known = field_validator("patterns")(known_registers)

    def matrix(self) -> Matrix:
        """Return the queues. Raises RefusedError for a text that is not a set of ids."""
        return Matrix.parse(self.adapters, self.domains)


class APNodeSpec(Model):
    """What the node shall hold."""

    # Atomic: the list is written whole by one writer. As a map, server-side apply leaves `spec: null` behind when
    # the last entry goes, and the entries of whoever edited it by hand.
    mdevs: Annotated[
        list[DesiredMdev], Field(max_length=1024, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    host_reserved: Annotated[
        list[ReservedQueues], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(
        default_factory=list,
        description="Queues that never leave the host. An administrator writes this.",
    )
    attested_keys: Annotated[
        list[AttestedKeys], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(
        default_factory=list,
        description="Master keys of queues that guests have, by an administrator's word. What can be read counts "
        "more; what was read before a queue left the host counts less.",
    )
    read_back: Annotated[str, Field(max_length=1024)] = Field(
        default="",
        description="Changed by the operator when it needs to know what the kernel holds since then: a status "
        "whose observedGeneration is that of the change was read after it.",
    )


class Machine(Observed):
    """The machine and the LPAR, from /proc/sysinfo."""

    id: str = Field(default="", description="Manufacturer-type-sequence; the same for every LPAR of a machine.")
    model: str = ""
    lpar: str = ""


class Kernel(Observed):
    """What the node's kernel can do, probed by files and tokens, never by version."""

    release: str = ""
    features: list[str] = Field(default_factory=list, description="Tokens and attributes that were found.")
    live_migration: Literal["no", "v1", "v4", "unknown"] = "unknown"
    queue_control: Literal["Masks", "DriverOverride", "Unknown"] = Field(
        default="Unknown", description="How queues are taken from the host; the two are never mixed."
    )
    max_adapter: int | None = None
    max_domain: int | None = None


class KeyUse(Observed):
    """Which domains of an adapter hold which set of master keys."""

    domains: Ids
    set: str
    sampled: str = Field(default="", description="When it was read; it cannot be read while a guest has it.")


class Adapter(Observed):
    """One adapter and its queues, grouped by who has them."""

    id: int
    type: str = Field(default="", description="CEX8C, CEX8P (EP11), CEX8A (accelerator) and so on.")
    functions: str = Field(default="", description="ap_functions of the card.")
    serial: str = Field(default="", description="As sampled before its last queue left the host.")
    op_modes: list[str] = Field(
        default_factory=list, description="Operation modes of an EP11 adapter, sampled as its serial number."
    )
    state: Literal["Online", "Offline", "Deconfigured", "Checkstopped", "Unknown"] = "Unknown"
    host: Ids = Field(default="", description="Domains whose queues are with the host's driver.")
    guest: Ids = Field(default="", description="Domains whose queues are with vfio_ap.")
    driverless: Ids = ""
    in_use: Ids = Field(default="", description="Domains whose queues a running guest has.")
    bound: Ids = Field(
        default="",
        description="Domains whose queues have a bind or associate state (Secure Execution); they do not migrate.",
    )
    keys: list[KeyUse] = Field(default_factory=list)


class KeySet(Observed):
    """One distinct set of master key verification patterns, by register, e.g. ``AES CUR``, and modes."""

    name: str
    patterns: dict[str, str]
    op_modes: list[str] = Field(default_factory=list, description="Operation modes of EP11 domains.")
    attested: bool = Field(default=False, description="By an administrator's word, not read from the card.")


class MdevStatus(Observed):
    """One mediated device, as read back from the kernel."""

    uuid: str
    matrix: str = Field(default="", description="Name of its APMatrix; empty for a foreign device.")
    adapters: Ids = ""
    domains: Ids = ""
    control_domains: Ids = ""
    guest_adapters: Ids = Field(default="", description="Adapters that a guest gets: those not filtered away.")
    guest_domains: Ids = ""
    state: Literal["Ready", "Incomplete", "Pending", "Failed", "Leaving", "Foreign"]
    offered: bool = Field(default=False, description="Registered with kubelet as an extended resource.")
    in_use: bool = False
    migratable: bool | None = Field(
        default=None, description="The attribute of that name as read back; absent where the kernel has none."
    )
    reason: str = ""
    message: Annotated[str, Field(max_length=1024)] = ""


class DeviceLog(Observed):
    """What the kernel said of a device since it was last frozen for a move."""

    uuid: str
    lines: Annotated[list[Annotated[str, Field(max_length=LOGGED_LENGTH)]], Field(max_length=LOGGED_LINES)]


class AlongQueues(Observed):
    """Queues that left the host although no matrix wants them."""

    adapter: int
    domains: Ids


class HostMasksStatus(Observed):
    """The host masks and what the plan for them costs."""

    adapters: Ids = Field(default="", description="Adapters in apmask: the host's.")
    domains: Ids = Field(default="", description="Domains in aqmask: the host's.")
    along: list[AlongQueues] = Field(default_factory=list)
    along_count: int = 0
    exact: bool = Field(default=True, description="No masks release fewer queues.")
    at_least: int = Field(default=0, description="No masks release fewer queues than this.")


class APNodeStatus(Observed):
    """What the node has and can do; written by the node's agent, on change only."""

    observed_generation: int = 0
    agent_version: str = ""
    machine: Machine = Field(default_factory=Machine)
    kernel: Kernel = Field(default_factory=Kernel)
    usage_domains: Ids = ""
    control_domains: Ids = ""
    masks: HostMasksStatus = Field(default_factory=HostMasksStatus)
    adapters: list[Adapter] = Field(default_factory=list)
    key_sets: list[KeySet] = Field(default_factory=list)
    mdevs: list[MdevStatus] = Field(default_factory=list)
    kernel_log: Annotated[list[DeviceLog], Field(max_length=LOGGED_DEVICES)] = Field(
        default_factory=list,
        description="What the kernel said of devices since they were last frozen for a move, of the latest moves.",
    )
    host_queues: int = 0
    guest_queues: int = 0
    driverless_queues: int = 0
    summary: dict[str, str] = Field(default_factory=dict, description="Texts of the printer columns.")
    conditions: ConditionList = Field(default_factory=list)


class APNode(Observed):
    """One node with an AP bus: what it shall hold, what it has, what it can do."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: APNodeSpec = Field(default_factory=APNodeSpec)
    status: APNodeStatus = Field(default_factory=APNodeStatus)


KIND = Kind(
    model=APNode,
    plural="apnodes",
    short_names=("apn",),
    namespaced=False,
    columns=(
        Column("Machine", "string", ".status.machine.id"),
        Column("Adapters", "string", ".status.summary.adapters"),
        Column("Host", "integer", ".status.hostQueues", "queues with the host's driver"),
        Column("Guest", "integer", ".status.guestQueues", "queues with vfio_ap"),
        Column("Mdevs", "string", ".status.summary.mdevs", "ready / wanted, and foreign ones"),
        Column("Live", "string", ".status.kernel.liveMigration", "what the kernel can do"),
        Column("State", "string", ".status.summary.state"),
        Column("Age", "date", ".metadata.creationTimestamp"),
        Column("LPAR", "string", ".status.machine.lpar", priority=1),
        Column("Kernel", "string", ".status.kernel.release", priority=1),
    ),
)
