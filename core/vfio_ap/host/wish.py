"""What one host shall hold, what on it is ours, and the steps between, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from vfio_ap.errors import Refusal
from vfio_ap.host.release import Release
from vfio_ap.host.view import GUEST_DRIVER
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix


@dataclass(frozen=True, slots=True)
class WantedMdev:
    """One mediated device that the host shall hold."""

    uuid: str
    name: str
    """Name of its matrix."""
    matrix: Matrix
    adopt: bool = False
    """Take an equal device over that somebody else made."""
    frozen: bool = False
    """A move is in flight: the device and the mask bits of its queues are left as they are."""
    migratable: bool = False
    """Whether its attribute ``migratable`` is set, where the kernel has one (L-1); frozen or not."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything that the host shall hold."""

    mdevs: tuple[WantedMdev, ...] = ()
    reserved: tuple[Matrix, ...] = ()
    """Queues that stay with the host whatever matrices want."""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    """By UUID, wanted devices whose text says nothing usable: what exists of them stays as it is."""

    refused_names: Mapping[str, str] = field(default_factory=dict)
    """By UUID, the matrix that a refused device was to be of."""
    incomplete: Refusal | None = None
    """Set when part of the wish cannot be read at all; then nothing is removed."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What on the host is our own doing; written down before it is done, so that a crash leaves no orphan."""

    bits: Matrix = Matrix()
    """Adapters and domains whose mask bits we cleared. Those that others cleared are never given back."""
    mdevs: Mapping[str, Matrix | None] = field(default_factory=dict)
    """UUIDs of our devices, with the configuration that we last gave each; None before the first."""
    overrides: frozenset[Apqn] = frozenset()
    """Queues whose driver_override we wrote. Those of others are never cleared."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Matrix of each device, for people who ask when no wish is at hand."""

    def legend(self) -> dict[str, str]:
        """Return what to call each of our devices."""
        return {uuid: self.names.get(uuid) or "ours" for uuid in self.mdevs}


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take an equal device of somebody else's into our books."""

    uuid: str
    matrix: Matrix

    def __str__(self) -> str:
        return f"adopt {self.uuid} with {self.matrix}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a device that is proven idle."""

    uuid: str

    def __str__(self) -> str:
        return f"remove {self.uuid}"


@dataclass(frozen=True, slots=True)
class EditMask:
    """One relative edit of one mask."""

    file: str
    text: str
    bits: IdSet
    release: bool
    """Whether the bits are cleared (queues leave the host) or set."""
    moved: int
    """Present queues that change hands at most; a measure of how long the write takes (K-7)."""

    def __str__(self) -> str:
        return f"write {self.file} {self.text}"


@dataclass(frozen=True, slots=True)
class Create:
    """Make a device without queues."""

    uuid: str

    def __str__(self) -> str:
        return f"create {self.uuid}"


@dataclass(frozen=True, slots=True)
class Configure:
    """Give a device its whole configuration in one ``ap_config`` write (V-22)."""

    uuid: str
    matrix: Matrix

    def __str__(self) -> str:
        return f"write {self.uuid}/ap_config {self.matrix}"


@dataclass(frozen=True, slots=True)
class Refilter:
    """Write a configuration again that is there: adapters that were filtered do not come back otherwise (V-24).

    Without ``ap_config`` the adapters are taken out and put in again: an assignment that is there changes nothing.
    """

    uuid: str
    matrix: Matrix
    guest: Matrix
    """What a guest gets without it."""
    adapters: IdSet
    """Those that can come back."""

    def __str__(self) -> str:
        return f"write {self.uuid} again for adapters {self.adapters}"


@dataclass(frozen=True, slots=True)
class Assign:
    """One write to an assign or unassign file, where the kernel has no ``ap_config``."""

    uuid: str
    file: str
    number: int
    leads_to: Matrix

    def __str__(self) -> str:
        return f"write {self.uuid}/{self.file} {self.number}"


@dataclass(frozen=True, slots=True)
class SetMigratable:
    """Let the kernel migrate a device, or not: the first version of its migration code has a switch (L-1)."""

    uuid: str
    value: bool

    def __str__(self) -> str:
        return f"write {self.uuid}/migratable {int(self.value)}"


@dataclass(frozen=True, slots=True)
class Override:
    """Write which driver alone may have a queue; empty lets the masks decide again (K-14, K-17)."""

    apqn: Apqn
    driver: str

    def __str__(self) -> str:
        return f"write {self.apqn}/driver_override {self.driver}".rstrip()


@dataclass(frozen=True, slots=True)
class Unbind:
    """Take a queue from its driver: an override moves nothing by itself (K-16)."""

    apqn: Apqn
    driver: str

    def __str__(self) -> str:
        return f"unbind {self.apqn} from {self.driver}"


@dataclass(frozen=True, slots=True)
class Probe:
    """Have the bus find the driver for a queue that has none (B-14)."""

    apqn: Apqn
    driver: str = GUEST_DRIVER
    """Who shall have it afterwards."""

    def __str__(self) -> str:
        return f"probe {self.apqn}"


Step: TypeAlias = (
    Adopt | Remove | EditMask | Override | Unbind | Probe | Create | Configure | Refilter | Assign | SetMigratable
)


def gives_back(step: Step) -> bool:
    """Tell whether a step leads queues back to the host."""
    match step:
        case EditMask(release=release):
            return not release
        case Override(driver=driver):
            return not driver
        case Unbind(driver=driver):
            return driver == GUEST_DRIVER
        case Probe(driver=driver):
            return driver != GUEST_DRIVER
    return False


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What to do next, in this order, and what not to do, and why."""

    steps: tuple[Step, ...] = ()
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By UUID."""
    waiting: frozenset[str] = frozenset()
    """Devices whose turn comes in the next plan, once these steps have been read back."""
    release: Release | None = None
    """The masks and what they cost; None where no masks were planned."""
