"""The kernel model behind a unix socket: files in the wire form of ``vfio_ap.host.ops``, and a control socket."""

from vfio_ap_sim.serve.client import ask
from vfio_ap_sim.serve.server import Simulator

__all__ = ["Simulator", "ask"]
