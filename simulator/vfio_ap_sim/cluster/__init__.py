"""A whole simulated cluster: a real control plane, the chart by the real helm, simulated IBM Z nodes.

The demo and the cluster tests use it; it knows nothing of what they show or check.
"""

from vfio_ap_sim.cluster.nodes import SimNode
from vfio_ap_sim.cluster.simcluster import SYSTEM, SimCluster, TookTooLongError

__all__ = ["SYSTEM", "SimCluster", "SimNode", "TookTooLongError"]
