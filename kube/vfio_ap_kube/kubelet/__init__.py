"""The kubelet's local gRPC APIs as the wire knows them: device plugins (v1beta1) and pod resources (v1).

Only messages, stubs, sockets and the contract's constants live here. What to advertise is the agent's to decide,
and who plays the kubelet is the simulator's. The ``*_pb2.py``, ``*_pb2.pyi`` and ``*_grpc.py`` files are generated
from the ``.proto`` files beside them by ``make proto`` (``python -m vfio_ap_kube.kubelet.generate``) and
committed, so that a user needs no compiler.
"""

from __future__ import annotations

from typing import Final

API_VERSION: Final = "v1beta1"
"""What a plugin names in its registration."""

HEALTHY: Final = "Healthy"
UNHEALTHY: Final = "Unhealthy"

DEVICE_PLUGIN_DIR: Final = "/var/lib/kubelet/device-plugins"
"""Where a real kubelet looks for plugins, whatever its ``--root-dir`` is."""

POD_RESOURCES_SOCKET: Final = "/var/lib/kubelet/pod-resources/kubelet.sock"

KUBELET_SOCKET: Final = "kubelet.sock"
"""File name of the kubelet's own socket in both of its directories."""

SOCKET_PATH_MAX: Final = 107
"""Bytes of a unix socket's path that Linux takes (``sun_path`` holds 108 with its final NUL)."""
