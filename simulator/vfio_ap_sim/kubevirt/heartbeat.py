"""What virt-handler tells of its node: labels and heartbeat. Functions from data to data.

After pkg/virt-handler/heartbeat/heartbeat.go and node-labeller/node_labeller.go of v1.8.4. The CPU is one and the
same on all played nodes, so that guests with its model may go from any to any.
"""

from __future__ import annotations

from vfio_ap_sim.kubevirt.api import Document

CPU_MODEL = "gen16a-base"
"""An IBM z16, as libvirt names it."""
CPU_FEATURES = ("ap", "apft", "apqci", "apqi", "msa5", "vx")
"""Some of what the host's model has; all that vfio-ap needs."""
MACHINES = ("s390-ccw-virtio", "s390-ccw-virtio-9.2")


def labels() -> dict[str, str]:
    """Return the node labeller's labels."""
    names = [
        *(f"machine-type.node.kubevirt.io/{machine}" for machine in MACHINES),
        *(f"cpu-feature.node.kubevirt.io/{feature}" for feature in CPU_FEATURES),
        *(f"host-model-required-features.node.kubevirt.io/{feature}" for feature in CPU_FEATURES),
        f"cpu-model.node.kubevirt.io/{CPU_MODEL}",
        f"cpu-model-migration.node.kubevirt.io/{CPU_MODEL}",
        f"host-model-cpu.node.kubevirt.io/{CPU_MODEL}",
        "cpu-vendor.node.kubevirt.io/IBM",
    ]
    return dict.fromkeys(names, "true")


def beat(now: str, *, schedulable: bool) -> Document:
    """Return the patch of the Node that says whether guests may come."""
    return {
        "metadata": {
            "labels": {
                "kubevirt.io/schedulable": str(schedulable).lower(),
                "cpumanager": "false",
                "kubevirt.io/cpumanager": "false",
            },
            "annotations": {"kubevirt.io/heartbeat": now},
        }
    }
