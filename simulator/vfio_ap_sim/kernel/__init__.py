"""A deterministic model of the Linux AP bus and vfio_ap as seen through sysfs.

It states the kernel's behaviour on its own: it shares no mask or matrix code with the product, only the form of
file operations (``vfio_ap.host.ops``). Fact ids such as V-33 name the rule behind a piece of code.
"""

from vfio_ap_sim.kernel.control import Control, boot
from vfio_ap_sim.kernel.errors import ControlError, SysfsError
from vfio_ap_sim.kernel.host import InProcessHost, finished
from vfio_ap_sim.kernel.kernel import Blocked, Kernel
from vfio_ap_sim.kernel.machine import Machine, load_machine, machine_from
from vfio_ap_sim.kernel.profile import PROFILES, Profile

__all__ = [
    "PROFILES",
    "Blocked",
    "Control",
    "ControlError",
    "InProcessHost",
    "Kernel",
    "Machine",
    "Profile",
    "SysfsError",
    "boot",
    "finished",
    "load_machine",
    "machine_from",
]
