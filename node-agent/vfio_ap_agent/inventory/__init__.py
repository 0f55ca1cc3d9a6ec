"""Reading a whole host in a few batches, into the frozen views of ``vfio_ap.host.view``."""

from vfio_ap_agent.inventory.read import read_host

__all__ = ["read_host"]
