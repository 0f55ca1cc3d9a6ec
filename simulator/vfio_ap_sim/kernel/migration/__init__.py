"""Live migration of a guest between two modelled hosts (kernel-ap.md 4).

The kernel's part is the state machine and the data files of one open device: ``device.py`` has what all versions
of the series share, ``v1.py`` and ``v4.py`` how each treats the stream. ``move.py`` is the user's part: what QEMU
on either side does with it. Nothing here knows a policy; whether a move is wise is not asked.
"""

from vfio_ap_sim.kernel.migration.device import DataFile, MigrationDevice
from vfio_ap_sim.kernel.migration.move import Outcome, Session, migrate
from vfio_ap_sim.kernel.migration.states import State

__all__ = ["DataFile", "MigrationDevice", "Outcome", "Session", "State", "migrate"]
