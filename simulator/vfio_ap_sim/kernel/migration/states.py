"""States of a VFIO device that migrates, and the arcs between them (L-4, ``vfio_mig_get_next_state``)."""

from __future__ import annotations

import errno
from enum import IntEnum

from vfio_ap_sim.kernel.errors import SysfsError


class State(IntEnum):
    """``enum vfio_device_mig_state``."""

    ERROR = 0
    STOP = 1
    RUNNING = 2
    STOP_COPY = 3
    RESUMING = 4
    RUNNING_P2P = 5
    PRE_COPY = 6
    PRE_COPY_P2P = 7


_REACHABLE = (State.STOP, State.RUNNING, State.STOP_COPY, State.RESUMING)
"""A device that offers VFIO_MIGRATION_STOP_COPY alone has neither the P2P nor the PRE_COPY states."""


def next_state(now: State, wanted: int) -> State:
    """Return the next state on the way from ``now`` to ``wanted``: all ways lead over STOP.

    Raises SysfsError EINVAL when ``wanted`` cannot be reached.
    """
    if wanted not in _REACHABLE:
        raise SysfsError(errno.EINVAL)
    return State(wanted) if now is State.STOP else State.STOP
