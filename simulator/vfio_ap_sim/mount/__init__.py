"""A modelled machine as a mounted file system: any program meets the kernel's files and errnos.

It speaks the protocol of /dev/fuse itself, so it needs neither libfuse nor a compiler; mount(2) needs root, or a
user and mount namespace of one's own. Calls that block in the model block their callers, and only them.
"""

from vfio_ap_sim.mount.netlink import Broadcast
from vfio_ap_sim.mount.server import Mount

__all__ = ["Broadcast", "Mount"]
