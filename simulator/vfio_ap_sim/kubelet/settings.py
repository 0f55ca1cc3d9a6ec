"""The knobs of a played kubelet, with a real kubelet's values as defaults. Holds data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Knobs:
    """Times in seconds. A demo shortens ``status_period`` to about 1 and ``first_backoff`` to about 0.5."""

    status_period: float = 10.0
    """How long a change may wait before it reaches the Node's status (nodeStatusUpdateFrequency)."""
    report_period: float = 300.0
    """How often an unchanged status is written all the same (nodeStatusReportFrequency)."""
    lease_period: float = 10.0
    """How often the Lease is renewed."""
    lease_duration: int = 40
    """What the Lease says of its own life."""
    plugin_grace: float = 300.0
    """How long a resource whose plugin is gone keeps its capacity (endpointStopGracePeriod)."""
    first_backoff: float = 10.0
    """Pause before a container's second restart (the first is at once); it doubles with each further one."""
    longest_backoff: float = 300.0
    """Longest pause before a restart; a container that ran twice as long starts afresh."""
    stop_grace: float = 2.0
    """From SIGTERM to SIGKILL when the played kubelet itself is stopped."""
    address: str = "127.0.0.1"
    """The Node's address and every pod's: processes share this machine's network."""
    play_unmapped: bool = True
    """Whether a container whose image is not in the image map counts as running, and an init container as done at
    once; else its image is missing."""
    capacity: Mapping[str, str] = field(
        default_factory=lambda: {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    )
    """What the node has, but for device plugins' resources."""
