"""The root of the modelled file system: which subtree hangs where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vfio_ap_sim.kernel.nodes import Directory, Node, folder
from vfio_ap_sim.kernel.procfs import proc_directory
from vfio_ap_sim.kernel.tree_ap import ApTree, Settings
from vfio_ap_sim.kernel.tree_vfio import VfioTree

if TYPE_CHECKING:
    from vfio_ap_sim.kernel.kernel import Kernel


def root_directory(kernel: Kernel) -> Directory:
    """Return ``/`` of a kernel."""
    ap = ApTree(
        bus=kernel.bus,
        scanner=kernel.scanner,
        hardware=kernel.hardware,
        driver=lambda: kernel.mdevs.driver if kernel.mdevs else None,
        settings=Settings(),
        config_time=lambda: kernel.config_time,
        set_config_time=kernel.set_config_time,
        boot=(kernel.machine.apmask, kernel.machine.aqmask),
    )
    vfio = VfioTree(kernel.profile, lambda: kernel.mdevs, kernel.uevents, kernel.hazards.append)
    return folder(
        {
            "dev": _on_demand({"vfio": vfio.dev_directory}),
            "proc": proc_directory(kernel.machine.machine, kernel.profile, lambda: kernel.guests),
            "sys": folder(
                {
                    "bus": _on_demand(
                        {
                            "ap": _same(ap.bus_directory()),
                            "matrix": vfio.matrix_bus,
                            "mdev": _same(vfio.mdev_bus()),
                        }
                    ),
                    "class": _on_demand(
                        {
                            "mdev_bus": vfio.mdev_class,
                            "vfio": vfio.vfio_class,
                            "vfio-dev": vfio.vfio_dev_class,
                        }
                    ),
                    "devices": _on_demand(
                        {
                            "ap": _same(ap.devices_directory()),
                            "vfio_ap": vfio.device_directory,
                            "virtual": _same(_on_demand({"vfio": vfio.virtual_devices})),
                        }
                    ),
                    "kernel": _on_demand({"iommu_groups": vfio.iommu_groups}),
                    "module": _on_demand(
                        {
                            "ap": _same(folder({"parameters": ap.parameters()})),
                            "vfio_ap": vfio.module,
                            "zcrypt_cex4": _same(folder({})),
                        }
                    ),
                }
            ),
        }
    )


def _on_demand(makers: dict[str, Callable[[], Node | None]]) -> Directory:
    """Return a directory whose children are made when asked for, and may be absent."""
    return Directory(
        lambda: [name for name, make in makers.items() if make() is not None],
        lambda name: makers[name]() if name in makers else None,
    )


def _same(node: Node) -> Callable[[], Node]:
    return lambda: node
