"""Folders short enough for unix sockets, and a played device manager."""

from ..plugin.conftest import bell, kubelet_dir, manager

__all__ = ["bell", "kubelet_dir", "manager"]
