"""KubeVirt v1.8.4 on a bare machine: its control plane real, its node parts played.

virt-api and virt-controller are KubeVirt's own programs. virt-handler, virt-launcher, libvirt and QEMU are played
on simulated nodes, true to KubeVirt's source in what others can see; ``docs/kubevirt-played.md`` lists it.
"""

from vfio_ap_sim.kubevirt.handler import VirtHandler
from vfio_ap_sim.kubevirt.installation import KubeVirt
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.launcher import VirtLauncher
from vfio_ap_sim.kubevirt.settings import Settings

__all__ = ["Knobs", "KubeVirt", "Settings", "VirtHandler", "VirtLauncher"]
