"""One AP host as it was read at one moment: bus, adapters, queues, masks and mediated devices.

A view is whole or it does not exist: whoever reads the host raises rather than leave something out. What the
kernel would not say is ``None`` here, and ``None`` is never taken for a yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vfio_ap.host.masks import HostMasks
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

HOST_DRIVER = "cex4queue"
GUEST_DRIVER = "vfio_ap"
PAGE_QUEUES = 511
"""Most queues that ``matrix`` and ``guest_matrix`` can show; above it old kernels overrun a page (V-12)."""

QueueControl = Literal["Masks", "DriverOverride", "Unknown"]
LiveMigration = Literal["no", "v1", "v4", "unknown"]


@dataclass(frozen=True, slots=True)
class MachineView:
    """Machine and LPAR, from /proc/sysinfo; empty texts where it does not say."""

    id: str = ""
    """Manufacturer-type-sequence, the same for every LPAR of a machine."""
    model: str = ""
    lpar: str = ""


@dataclass(frozen=True, slots=True)
class KernelView:
    """What the kernel can do, by files and tokens, never by version (kernel-ap.md 0.1)."""

    release: str = ""
    max_adapter: int = 255
    max_domain: int = 255
    features: tuple[str, ...] = ()
    """Tokens of the matrix device (``guest_matrix``, ``hotplug``, ``ap_config``) and names of files found."""
    vfio_ap: bool = False
    """Whether the driver is loaded: its matrix device is there."""
    ap_config: bool = False
    """Whether an mdev takes its whole configuration in one write (V-8)."""
    driver_override: bool = False
    """Whether queues have a ``driver_override`` (Q-7)."""
    live_migration: LiveMigration = "unknown"
    queue_control: QueueControl = "Unknown"


@dataclass(frozen=True, slots=True)
class AdapterView:
    """One adapter's card device."""

    id: int
    type: str = ""
    """``CEX8C``; empty while no driver has the card (C-11)."""
    functions: int | None = None
    online: bool | None = None
    configured: bool | None = None
    checkstopped: bool | None = None

    @property
    def state(self) -> Literal["Online", "Offline", "Deconfigured", "Checkstopped", "Unknown"]:
        """The one word that says most."""
        if self.configured is False:
            return "Deconfigured"
        if self.checkstopped:
            return "Checkstopped"
        if self.online is None or self.configured is None or self.checkstopped is None:
            return "Unknown"
        return "Online" if self.online else "Offline"


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue device. Whether it is online, configured or checkstopped is its card's business."""

    driver: str = ""
    """Name of its driver, empty when none has it."""
    status: str = ""
    """``unassigned``, ``assigned`` or ``in use`` with vfio_ap (Q-18), else empty."""
    functions: int | None = None
    override: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """A process that has an mdev's VFIO group open."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command or 'process'} ({self.pid})"


@dataclass(frozen=True, slots=True)
class MdevView:
    """One mediated device."""

    uuid: str
    matrix: Matrix | None
    """What is assigned; None when the device is being removed (V-35) or cannot be read safely (V-12)."""
    guest: Matrix | None = None
    """What a guest gets (V-10); None when it cannot be read safely."""
    group: str = ""
    """Number of its IOMMU group, ``/dev/vfio/<group>``."""
    holders: tuple[Holder, ...] | None = None
    """Processes that have the group open; None when the host's processes cannot be seen."""
    queues_in_use: tuple[Apqn, ...] = ()
    """Its queues that a running guest has."""
    migratable: bool | None = None
    """Its attribute of that name; None where the kernel has none (L-0)."""
    leaving: bool = False
    """A write to its ``remove`` waits for a guest: attributes are gone, UUID and queues are taken (V-35)."""

    @property
    def in_use(self) -> bool:
        """Whether something is known to use it."""
        return self.leaving or bool(self.queues_in_use) or bool(self.holders)

    @property
    def proven_idle(self) -> bool:
        """Whether both tests of V-36 say that nothing uses it; not knowing is not a proof."""
        return not self.leaving and not self.queues_in_use and self.holders == ()

    @property
    def user(self) -> str:
        """Who uses it, for people."""
        if self.holders:
            return ", ".join(str(holder) for holder in self.holders)
        if self.queues_in_use:
            return f"a guest has queue {self.queues_in_use[0]}"
        if self.leaving:
            return "a guest that has not given it back"
        return "unknown: the processes of the host cannot be seen" if self.holders is None else "nobody"


@dataclass(frozen=True, slots=True)
class HostView:
    """Everything that was read of one host."""

    machine: MachineView = MachineView()
    kernel: KernelView = KernelView()
    present: Matrix = Matrix()
    """Adapters, usage and control domains that the machine gives this host (B-4)."""
    masks: HostMasks = field(default_factory=HostMasks)
    adapters: Mapping[int, AdapterView] = field(default_factory=dict)
    queues: Mapping[Apqn, QueueView] = field(default_factory=dict)
    mdevs: Mapping[str, MdevView] = field(default_factory=dict)
    bindings: str = ""
    """Text of ``bindings``, e.g. ``12/14`` (B-11)."""
    boot: str = ""
    """The kernel's boot id; empty when it has none to show."""

    def by_driver(self) -> dict[str, dict[int, IdSet]]:
        """Return, by driver and adapter, the domains of the queues that it has."""
        bits: dict[str, dict[int, int]] = {}
        for apqn, queue in self.queues.items():
            row = bits.setdefault(queue.driver, {})
            row[apqn.adapter] = row.get(apqn.adapter, 0) | 1 << apqn.domain
        return {driver: {a: IdSet(d) for a, d in rows.items()} for driver, rows in bits.items()}
