"""A played kubelet: a node against a real kube-apiserver, with processes of this machine as containers.

True to the kubelet in what others can see of it: Node and Lease, device plugins and their delay in the Node's
status, admission, pods' status, probes, bound tokens, restarts and graceful ends. It isolates nothing and pulls no
images. It is a simulator: nothing that ships imports it.
"""

from vfio_ap_sim.kubelet.kubelet import PlayedKubelet
from vfio_ap_sim.kubelet.settings import Knobs

__all__ = ["Knobs", "PlayedKubelet"]
