"""For which guests virt-handler raises what their processes may lock in memory. A function from data to data.

After KvmVirtRuntime.AdjustResources (pkg/hypervisor/kvm/runtime.go of v1.8.4). A VFIO device that is only in the
domain XML is not seen: such a VMI has to ask by ``reservedOverhead``.
"""

from __future__ import annotations

from vfio_ap_sim.kubevirt.api import Document


def may_lock_memory(vmi: Document) -> bool:
    """Tell whether virt-handler raises what the guest's processes may lock."""
    domain = vmi["spec"]["domain"]
    devices = domain.get("devices", {})
    reserved = domain.get("memory", {}).get("reservedOverhead", {})
    vfio = bool(devices.get("hostDevices") or devices.get("gpus"))
    sriov = any("sriov" in interface for interface in devices.get("interfaces", ()))
    return vfio or sriov or reserved.get("memLock") == "Required"
