"""A move as data: what is asked for, what KubeVirt makes of it, how it stands, what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.gate import GatePlan
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap.matrix import Matrix

FINAL = frozenset({"Checked", "Refused", "Succeeded", "Alarm", "Failed"})


@dataclass(frozen=True, slots=True)
class MigrationView:
    """One migration of KubeVirt's (VirtualMachineInstanceMigration)."""

    namespace: str
    name: str
    uid: str
    vm: str
    """Name of its VMI."""
    phase: str = ""
    """KubeVirt's word, empty at first."""
    target: str = ""
    """Node, once it is known."""
    failure: str = ""
    asked_by: str = "user"
    move: str = ""
    """Name of the APMigration that it was made for."""

    @property
    def handed_over(self) -> bool:
        """Tell whether KubeVirt has found the target pod ready, after which the guests' hosts have it in hand."""
        return self.phase not in ("", "Pending", "Scheduling")

    @property
    def over(self) -> bool:
        """Tell whether it has ended."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """How a move stands; what an APMigration's status says, without times."""

    phase: str = ""
    line: str = ""
    matrix: str = ""
    uuid: str = ""
    source: str = ""
    target: str = ""
    mode: str = ""
    asked_by: str = ""
    migration: str = ""
    migration_uid: str = ""
    instance: str = ""
    """UID of the VMI that is stopped, where the VM is restarted elsewhere."""
    guest: Matrix | None = None
    """What the guest had when it was let go, read back while its device was frozen; None before, or unknown."""
    answers: tuple[Answer, ...] = ()
    refusal: Refusal | None = None
    """What failed, or what is waited for."""

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.phase in FINAL

    @property
    def restarting(self) -> bool:
        """Tell whether KubeVirt was asked to stop the VM and start it elsewhere, and it is not there yet."""
        return self.phase == "Restarting"


@dataclass(frozen=True, slots=True)
class MoveView:
    """One APMigration: what is asked for, and how it was said to stand."""

    namespace: str
    name: str
    uid: str
    vm: str
    node: str = ""
    dry_run: bool = False
    created: str = ""
    status: MoveStatus = MoveStatus()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a move depends on."""

    matrix: MatrixView
    plan: GatePlan
    pods: tuple[PodView, ...]
    nodes: Mapping[str, NodeView]
    vm: VmView | None
    fresh: bool = False
    """The target's agent has read its kernel since KubeVirt called the migration ended."""
    patient: bool = False
    """The target's agent answers, and has not been waited for too long."""
