"""The device plugin: one extended resource with one device for each matrix that is granted to this node.

What is granted, and whether it is healthy, is decided elsewhere and handed in (``PluginSet.set``); this package
makes the kubelet know it, and answers the kubelet when a pod gets the device. It reads no sysfs and writes no API
object.
"""

from vfio_ap_agent.plugin.grants import Grant, env_name
from vfio_ap_agent.plugin.plugin_set import PluginSet

__all__ = ["Grant", "PluginSet", "env_name"]
