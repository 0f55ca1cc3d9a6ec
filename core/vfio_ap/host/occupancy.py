"""Which mediated device has which queue, for quick answers about overlaps."""

from __future__ import annotations

from collections.abc import Mapping

from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix


class Occupancy:
    """Devices by adapter, so that a question costs what shares its adapters and not what exists."""

    def __init__(self, devices: Mapping[str, Matrix]) -> None:
        self._rows: dict[int, dict[str, int]] = {}
        self._of: dict[str, Matrix] = {}
        for uuid, matrix in devices.items():
            self.put(uuid, matrix)

    def put(self, uuid: str, matrix: Matrix) -> None:
        """Say that a device holds exactly this."""
        for adapter in self._of.get(uuid, Matrix()).adapters:
            self._rows[adapter].pop(uuid, None)
        self._of[uuid] = matrix
        for adapter in matrix.adapters:
            self._rows.setdefault(adapter, {})[uuid] = matrix.domains.bits

    def conflict(self, uuid: str, matrix: Matrix) -> tuple[str, Apqn] | None:
        """Return another device and the first queue that both hold; control domains do not conflict (V-18)."""
        for adapter in matrix.adapters:
            for other, domains in self._rows.get(adapter, {}).items():
                if other != uuid and (common := domains & matrix.domains.bits):
                    return other, Apqn(adapter, next(iter(IdSet(common))))
        return None
