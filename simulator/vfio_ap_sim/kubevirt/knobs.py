"""The knobs of what is played on a node, with KubeVirt's and a usual node's values as defaults. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Knobs:
    """Times in seconds, sizes in bytes."""

    heartbeat: float = 60.0
    """Between two heartbeats, each of which sweeps mdevs (real ones wait 1 to 2.2 times as long)."""
    hook_limit: float = 240.0
    """How long virt-launcher waits for its sidecars (--qemu-timeout)."""
    copy_time: float = 0.3
    """How long a guest's memory takes to its new node."""
    wire: Callable[[bytes], bytes] = bytes
    """Makes of a device's stream what reaches the other node. Called in the stop window, on the source's side."""
    memlock: int = 8 << 20
    """What a container's processes may lock unless virt-handler raises it (systemd's default)."""
    raise_memlock_on_target: bool = True
    """Whether a migration's target may lock as much as its source.

    virt-handler v1.8.4 raises the limit only once the guest has arrived (migration-target.go:249), too late for a
    QEMU that has to lock memory before; where the container runtime's own limit is high this does not matter.
    """
    first_retry: float = 0.1
    """Pause before a failed step is tried again; it doubles each time."""
    longest_retry: float = 20.0
