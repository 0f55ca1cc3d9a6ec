"""Where the sidecar meets the others: the hook socket and the hold file; and how to reach a long socket path.

Imported by the readiness probe, which starts every second: keep it light.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SOCKET_DIR = "/var/run/kubevirt-hooks"
"""KubeVirt mounts a folder of our own there (pkg/hooks/hooks.go:HookSocketsSharedDirectory)."""
SOCKET_NAME = "vfio-ap.sock"
"""virt-launcher tells sidecars apart by this name alone (pkg/hooks/manager.go), so no other may use it."""
HOLD_FILE = "/etc/vfio-ap/hold/annotations"
"""The pod's annotations, by a downward API volume that migration targets have."""


def socket_dir() -> str:
    """Return the folder of the hook socket, by ``HOOK_SOCKET_DIR`` if that is set."""
    return os.environ.get("HOOK_SOCKET_DIR") or SOCKET_DIR


def hold_file() -> str:
    """Return the file with the pod's annotations, by ``HOLD_FILE`` if that is set."""
    return os.environ.get("HOLD_FILE") or HOLD_FILE


@contextmanager
def socket_address(folder: str) -> Iterator[str]:
    """Give an address of the socket in ``folder`` that fits the kernel's 107 bytes. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
