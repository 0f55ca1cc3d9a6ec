"""One mediated device of vfio_ap: what is assigned, and what of it a guest gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vfio_ap_sim.kernel.bitmap import ids_of, render
from vfio_ap_sim.kernel.devices import apqn_of, queue_name
from vfio_ap_sim.kernel.guests import Guest
from vfio_ap_sim.kernel.tasks import Wait

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.migration.device import MigrationDevice

PAGE_TEXT = 4095
"""Longest text a show function may return: a page less the terminator (V-12)."""
_WHOLE_LINES = 512


@dataclass(frozen=True, slots=True)
class Matrix:
    """Adapters x domains, and control domains (``vfio_ap_private.h:struct ap_matrix``)."""

    adapters: int = 0
    domains: int = 0
    control: int = 0

    def apqns(self) -> Iterator[int]:
        """Yield the APQNs, adapter by adapter."""
        for adapter in ids_of(self.adapters):
            for domain in ids_of(self.domains):
                yield apqn_of(adapter, domain)

    def size(self) -> int:
        """Return the number of APQNs."""
        return self.adapters.bit_count() * self.domains.bit_count()

    def overlaps(self, other: Matrix) -> bool:
        """Whether an APQN is in both."""
        return bool(self.adapters & other.adapters and self.domains & other.domains)

    def common(self, other: Matrix) -> Matrix:
        """Return the APQNs that are in both."""
        return Matrix(self.adapters & other.adapters, self.domains & other.domains)

    def text(self) -> str:
        """Return the lines of ``matrix`` or ``guest_matrix``, cut at one page (V-9, V-10, V-12)."""
        if self.size():
            lines: list[str] = []
            for apqn in self.apqns():
                lines.append(queue_name(apqn) + "\n")
                if len(lines) == _WHOLE_LINES:
                    break
            return "".join(lines)[:PAGE_TEXT]
        if self.adapters:
            return "".join(f"{adapter:02x}.\n" for adapter in ids_of(self.adapters))
        return "".join(f".{domain:04x}\n" for domain in ids_of(self.domains))

    def control_text(self) -> str:
        """Return the lines of ``control_domains`` (V-11)."""
        return "".join(f"{domain:04x}\n" for domain in ids_of(self.control))

    def masks_text(self) -> str:
        """Return the line of ``ap_config`` (V-13)."""
        return ",".join(render(mask) for mask in (self.adapters, self.domains, self.control)) + "\n"


EMPTY = Matrix()


@dataclass(slots=True, eq=False)
class Mdev:
    """A mediated device and its VFIO group."""

    uuid: str
    group: int
    """Number of the IOMMU group and of /dev/vfio/N."""
    cdev: int
    """Number of vfio-dev/vfioN."""
    max_adapter: int
    max_domain: int
    assigned: Matrix = EMPTY
    shadow: Matrix = EMPTY
    """What a guest gets; kept up whether or not one runs (V-10)."""
    added: Matrix = EMPTY
    """Assigned ids that the current scan found new, to be filtered when it is over (V-40)."""
    guest: Guest | None = None
    leaving: bool = False
    """Whether ``remove`` was written: the attributes are gone, the device is not (V-33)."""
    released: list[Wait] = field(default_factory=list)
    """Who waits for the device to be let go."""
    migratable: bool = False
    migration: MigrationDevice | None = None
    """There while a guest has the device open, on kernels that can migrate."""
    pins: int = 0
    """Open data files of a migration: each keeps the device, as an open device does."""

    @property
    def held(self) -> bool:
        """Whether someone has the device or one of its data files open."""
        return self.guest is not None or self.pins > 0

    def wake(self) -> None:
        """Let those go on who wait for the device."""
        waiting, self.released = self.released, []
        for wait in waiting:
            wait.fire()

    @property
    def path(self) -> str:
        """DEVPATH."""
        return f"/devices/vfio_ap/matrix/{self.uuid}"
