"""The three LPARs of the demo: the worked example of the kernel's document needs 256 domains.

lnx1 and lnx2 are LPARs of two machines with equal adapter numbers and equal master keys, as a pair for migration
is. lnx3 is a third machine whose adapter 5 is in EP11 mode, where that of the others is in CCA mode.
"""

from __future__ import annotations

from vfio_ap_sim.kernel import Machine, machine_from

_USAGE = "0-15,0x47,0xab,0xff"


def _lpar(name: str, sequence: str, adapters: list[tuple[int, str]]) -> Machine:
    return machine_from(
        {
            "name": name,
            "machine": {"type": "3931", "model": "A01", "sequence": sequence, "lpar": name.upper()},
            "adapters": [{"id": number, "type": kind, "keys": "payments"} for number, kind in adapters],
            "usageDomains": _USAGE,
            "controlDomains": _USAGE,
            "maxAdapter": 255,
            "maxDomain": 255,
        }
    )


MACHINES = {
    "lnx1": _lpar("lnx1", "00000000000A1001", [(5, "CEX8C"), (6, "CEX8C"), (7, "CEX8A"), (10, "CEX8P")]),
    "lnx2": _lpar("lnx2", "00000000000B2002", [(5, "CEX8C"), (6, "CEX8C"), (8, "CEX8A")]),
    "lnx3": _lpar("lnx3", "00000000000C3003", [(5, "CEX8P"), (6, "CEX8C"), (7, "CEX7C")]),
}
"""Machines of the nodes, by node name."""

LABELS = {"lnx1": {"zone": "payments"}, "lnx2": {"zone": "payments"}, "lnx3": {"zone": "archive"}}
"""Labels of the nodes."""

KERNEL = "MIGv4PLUS"
"""Profile of the nodes' kernels: Linux with the patches for live migration that are on their way."""
