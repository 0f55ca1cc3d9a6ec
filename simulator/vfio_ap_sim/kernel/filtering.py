"""What of an mdev's assignment a guest gets: the exact rule of kernel-ap.md 3.5, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vfio_ap_sim.kernel.bitmap import has, ids_of
from vfio_ap_sim.kernel.hardware import Qci
from vfio_ap_sim.kernel.mdev import Matrix


def filter_matrix(
    assigned: Matrix, previous: Matrix, host: Qci, passable: Callable[[int], int]
) -> tuple[Matrix, int]:
    """Return the new shadow and the adapters that it lost by filtering (``vfio_ap_mdev_filter_matrix``).

    ``passable(adapter)`` is the mask of that adapter's domains whose queue vfio_ap has in order. One missing queue
    drops its whole adapter (V-23); domains are dropped only when the host does not have them. The control domains
    of the shadow stay as they are.
    """
    adapters = assigned.adapters & host.adapters
    domains = assigned.domains & host.usage
    lost = 0
    for adapter in ids_of(adapters):
        if domains & ~passable(adapter):
            adapters &= ~(1 << adapter)
            if has(previous.adapters, adapter):
                lost |= 1 << adapter
    return replace(previous, adapters=adapters, domains=domains), lost


def filter_control(assigned: Matrix, previous: Matrix, host: Qci) -> Matrix:
    """Return the shadow with those control domains that the host has (``vfio_ap_mdev_filter_cdoms``)."""
    return replace(previous, control=assigned.control & host.control)


def without(matrix: Matrix, gone: Matrix) -> Matrix:
    """Return a matrix without some adapters, domains and control domains."""
    return Matrix(matrix.adapters & ~gone.adapters, matrix.domains & ~gone.domains, matrix.control & ~gone.control)
