"""A real Kubernetes control plane on a bare machine: no Docker, no root.

Gets etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and helm, starts the servers on
loopback and takes everything away again. It knows nothing of adapters and plays no nodes.
"""

from .binaries import Binaries, Located, default_binaries
from .controlplane import ControlPlane
from .errors import (
    BinaryUnavailableError,
    BuildFailedError,
    ChecksumMismatchError,
    CommandFailedError,
    DownloadFailedError,
    LauncherError,
    NoGoError,
    NoPortError,
    NotReadyError,
    ProcessDiedError,
)

__all__ = [
    "Binaries",
    "BinaryUnavailableError",
    "BuildFailedError",
    "ChecksumMismatchError",
    "CommandFailedError",
    "ControlPlane",
    "DownloadFailedError",
    "LauncherError",
    "Located",
    "NoGoError",
    "NoPortError",
    "NotReadyError",
    "ProcessDiedError",
    "default_binaries",
]
