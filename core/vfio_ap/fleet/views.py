"""What the operator knows of matrices and nodes, as compact values.

A machine of 5,100 queues is here a few integers and its mediated devices, not the 177 KiB of dictionaries that
its status document takes in memory. Nothing here decides anything.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from vfio_ap.errors import Refusal
from vfio_ap.fleet.scheduling import Taint
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix


class Placement(enum.Enum):
    """Where the mediated devices of a matrix are made."""

    ON_DEMAND = "OnDemand"
    EVERYWHERE = "Everywhere"


@dataclass(frozen=True, slots=True)
class Variant:
    """Other ids of a matrix, for some nodes."""

    matrix: Matrix
    selector: Mapping[str, str] = field(default_factory=dict)
    machines: frozenset[str] = frozenset()
    """Machines that it is for; empty means any."""

    def selects(self, node: NodeView) -> bool:
        """Tell whether it is for the node."""
        if self.machines and node.machine not in self.machines:
            return False
        return all(node.labels.get(key) == value for key, value in self.selector.items())


@dataclass(frozen=True, slots=True)
class MatrixView:
    """One APMatrix."""

    name: str
    uuid: str
    """Empty until it is assigned."""
    matrix: Matrix = Matrix()
    invalid: Refusal | None = None
    """Why the ids make no sense; ``matrix`` is then without queues."""
    placement: Placement = Placement.ON_DEMAND
    selector: Mapping[str, str] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    adopt: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    """RFC 3339, so that text order is time order."""
    accepted: bool = False
    """Whether this very generation was accepted before."""
    deleting: bool = False
    variants: tuple[Variant, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    """Master key pattern that a register must have wherever the matrix is, ``AES CUR``."""

    def on(self, node: NodeView) -> Matrix:
        """Return its ids on a node: those of the first variant that is for it, else its own."""
        for variant in self.variants:
            if variant.selects(node):
                return variant.matrix
        return self.matrix

    @property
    def configurations(self) -> tuple[Matrix, ...]:
        """Return its ids as they are anywhere: its own, then those of its variants."""
        return (self.matrix, *(variant.matrix for variant in self.variants))

    @property
    def adapters(self) -> IdSet:
        """Return the adapters that it has on any node."""
        return IdSet.from_ids(adapter for matrix in self.configurations for adapter in matrix.adapters)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with these labels may hold the matrix."""
        selector = self.selector
        return not selector or all(labels.get(key) == value for key, value in selector.items())

    def precedence(self) -> tuple[bool, str, str]:
        """Return what orders two matrices that contradict each other; the smaller one stands.

        One that was accepted as it is now stands against one that is new or edited, so that an edit cannot take
        queues from a matrix that works. Then the older one, then the name.
        """
        return (not self.accepted, self.created, self.name)


@dataclass(frozen=True, slots=True)
class Desired:
    """One mediated device that a node shall hold."""

    uuid: str
    matrix: str
    configuration: Matrix
    granted: bool = False
    adopt: bool = False
    frozen: bool = False
    """A move is in flight: the node's agent leaves the device and the mask bits of its queues as they are."""
    migratable: bool = False
    """The attribute of the first version of the kernel's migration code is to be set."""


@dataclass(frozen=True, slots=True)
class HeldMdev:
    """One mediated device that a node holds, as its agent read it back."""

    uuid: str
    configuration: Matrix
    state: str
    """``Ready``, ``Incomplete``, ``Pending``, ``Failed``, ``Leaving`` or ``Foreign``."""
    offered: bool = False
    in_use: bool = False
    reason: str = ""
    message: str = ""
    guest: Matrix | None = None
    """What a guest gets of it, filtered; None where the agent does not say."""
    migratable: bool | None = None
    """The attribute of the first version, as read back; None where the device has none."""


@dataclass(frozen=True, slots=True)
class Card:
    """What of an adapter's hardware matters to a move."""

    type: str
    """``CEX8C``."""
    functions: int | None
    """``ap_functions`` of the card (1.5); None when the node has not said."""
    state: str = "Online"
    """``Online``, ``Offline`` (to the host's own programs), ``Deconfigured``, ``Checkstopped`` or ``Unknown``."""
    domains: IdSet | None = None
    """Domains of which the adapter has a queue, whoever has it; None: all usage domains of the node."""
    bound: IdSet = IdSet()
    """Domains of queues with a bind or associate state, as only Linux in Secure Execution gives them."""
    op_modes: tuple[str, ...] = ()
    """EP11 operation modes, ascending; empty where they were never read."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """One set of master key verification patterns (Q-15, Q-16)."""

    patterns: tuple[tuple[str, str], ...]
    """Pattern by register, ``AES CUR``, ascending; what a register without a key says instead is its state."""
    op_modes: tuple[str, ...] = ()
    """EP11 operation modes of the domains that hold it."""
    attested: bool = False
    """By an administrator's word, not read."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Which domains of an adapter hold a set of master keys."""

    domains: IdSet
    keys: KeySet
    sampled: str = ""
    """When it was read, where the queue has left the host since; empty for what is read now."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node with an AP bus: its APNode and what its Node says."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    alive: bool = False
    """The Node is ready and the agent's Lease is fresh; what is known of a node that is not alive is history."""
    unready: Refusal | None = None
    """Why its agent says that it is not ready: the host cannot be read, so all else is older, or has no driver."""
    max_adapter: int | None = None
    """Largest id that the kernel takes; None until the agent has reported."""
    max_domain: int | None = None
    present: Matrix = Matrix()
    """Adapters and usage domains that the machine gives this node."""
    in_advance: bool = True
    """A device may hold ids that the machine does not give yet: not where queues are overridden one by one."""
    cards: Mapping[int, Card] = field(default_factory=dict)
    """Its adapters' hardware, by id."""
    keys: Mapping[int, tuple[KeyUse, ...]] = field(default_factory=dict)
    """What is known of its queues' master keys, by adapter."""
    live: str = "unknown"
    """What its kernel can do of live migration: ``no``, ``v1``, ``v4`` or ``unknown``."""
    release: str = ""
    """Its kernel, for people."""
    machine: str = ""
    """The machine that its LPAR is of; empty where /proc/sysinfo does not say."""
    reserved: tuple[Matrix, ...] = ()
    """Queues that stay with the host, by an administrator's word."""
    desired: tuple[Desired, ...] = ()
    """What its spec says now."""
    mdevs: Mapping[str, HeldMdev] = field(default_factory=dict)
    current: bool = False
    """The agent has seen and answered the newest spec."""
    allocatable: frozenset[str] = frozenset()
    """Matrices whose resource kubelet publishes as allocatable."""
    read_back: frozenset[str] = frozenset()
    """Migrations since whose end the agent was asked to read the kernel; it has when the node is ``current``."""
    kernel_log: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the kernel said of a device, by UUID, since it was last frozen for a move."""

    @property
    def shape(self) -> tuple[object, ...]:
        """Return what of a node, beside its labels, matters to a matrix that it does not hold."""
        return (self.alive, self.unready, self.max_adapter, self.max_domain, self.present, self.in_advance)

    @property
    def place(self) -> tuple[object, ...]:
        """Return what of a node says which matrices may be there, and with which ids."""
        return (self.shape, self.labels, self.machine)

    @property
    def terms_of_move(self) -> tuple[object, ...]:
        """Return what of a node, beside its shape and its devices, a verdict on a move looks at."""
        return (self.taints, self.cards, self.keys, self.live, self.machine, self.reserved)

    @property
    def reported(self) -> bool:
        """Tell whether the node's agent has ever said what the node is."""
        return self.max_adapter is not None

    def no_answer(self) -> Refusal | None:
        """Return why what is known of the node counts for nothing now, if so."""
        if not self.alive:
            return Refusal("NodeSilent", self.name, "the node or its agent does not answer")
        if self.unready is not None:
            return Refusal("NodeNotReady", self.name, f"the node is not ready: {self.unready.message}")
        return None

    def limit_exceeded(self, matrix: Matrix) -> Refusal | None:
        """Return why an id of the matrix is above what this node's kernel takes (ENODEV), if one is."""
        for what, wanted, most in (
            ("adapter", matrix.adapters, self.max_adapter),
            ("domain", matrix.domains, self.max_domain),
            ("control domain", matrix.control_domains, self.max_domain),
        ):
            if most is not None and wanted.highest() > most:
                text = f"{what} {wanted.highest()} is above the node's maximum {most}"
                remedy = "leave the id out, or exclude the node by spec.nodeSelector"
                return Refusal("IdAboveMaximum", self.name, text, remedy)
        return None

    def gives(self, matrix: Matrix) -> bool:
        """Tell whether the machine gives this node every adapter and domain of the matrix."""
        return matrix.adapters <= self.present.adapters and matrix.domains <= self.present.domains

    def missing(self, matrix: Matrix) -> Matrix:
        """Return the adapters and domains of the matrix that the machine does not give this node."""
        return Matrix(matrix.adapters - self.present.adapters, matrix.domains - self.present.domains)

    def absent(self, matrix: Matrix) -> Refusal | None:
        """Return why no guest can have the matrix here for want of queues, if so.

        Ids that are not there yet may be held in advance (K-2), and the guest has the others meanwhile; not where
        each queue is taken by an override of its own.
        """
        if self.gives(matrix) or (self.in_advance and len(matrix.overlap(self.present))):
            return None
        remedy = "give them to the LPAR, or exclude the node by spec.nodeSelector"
        return Refusal("QueueAbsent", self.name, f"the node has no {self.missing_text(matrix)}", remedy)

    def missing_text(self, matrix: Matrix) -> str:
        """Return what is missing of the matrix, ``adapters 6 and no domains 171``, the empty text for nothing."""
        if self.gives(matrix):
            return ""
        missing = self.missing(matrix)
        parts = [f"adapters {missing.adapters}"] * bool(missing.adapters)
        return " and no ".join(parts + [f"domains {missing.domains}"] * bool(missing.domains))


def ids_text(matrix: Matrix) -> dict[str, str]:
    """Return the fields of a configuration as the API writes them; no control domains, no field."""
    fields = {"adapters": str(matrix.adapters), "domains": str(matrix.domains)}
    if matrix.control_domains:
        fields["controlDomains"] = str(matrix.control_domains)
    return fields
