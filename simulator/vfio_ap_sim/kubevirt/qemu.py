"""What the played libvirt and QEMU refuse of a domain with a vfio-ap device, with their own words.

Sources: libvirt's qemu_validate.c, virmdev.c, virprocess.c and qemu_domain.c:qemuDomainGetMemLockLimitBytes;
QEMU's hw/vfio/ap.c, container.c and migration.c, hw/s390x/ap-bridge.c and docs/system/s390x/vfio-ap.rst. Functions
from data to data: what the node has is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from vfio_ap_sim.kubevirt.domain import Domain
from vfio_ap_sim.kubevirt.libvirterror import Code, LibvirtError, qemu_died

VFIO_AP: Final = "vfio-ap"
MDEV_ROOM: Final = 1 << 30
"""Bytes beyond the guest's own that libvirt lets QEMU lock for any VFIO device."""
_OFF: Final = ("disable", "forbid")


@dataclass(frozen=True, slots=True)
class Room:
    """What a pod gives the guest's processes."""

    mdevs: Mapping[str, int]
    """The node's mdevs with their VFIO groups: sysfs shows all of them in every container."""
    groups: Collection[int]
    """VFIO groups whose device the container was given."""
    memlock: int
    """Bytes that virtqemud may let a process lock."""


def validate(domain: Domain) -> None:
    """Check what libvirt checks when a domain is defined. Raises LibvirtError."""
    if sum(mdev.model == VFIO_AP for mdev in domain.mdevs) > 1:
        raise LibvirtError(Code.CONFIG_UNSUPPORTED, "Only one hostdev of model vfio-ap is supported")


def admit(domain: Domain, room: Room) -> None:
    """Check what libvirt and then QEMU check before the guest's first instruction. Raises LibvirtError."""
    for mdev in domain.mdevs:
        if mdev.uuid not in room.mdevs:
            raise LibvirtError(Code.DEVICE_MISSING, f"mediated device '{mdev.uuid}' not found")
        if mdev.model != VFIO_AP:
            path = f"/sys/bus/mdev/devices/{mdev.uuid}"
            text = f"invalid device API '{mdev.model}' for device {path}: device only supports '{VFIO_AP}'"
            raise LibvirtError(Code.CONFIG_UNSUPPORTED, text)
    if not domain.mdevs:
        return
    wanted = domain.memory + MDEV_ROOM
    if room.memlock < wanted:
        limit = f"cannot limit locked memory to {wanted}: Operation not permitted"
        raise LibvirtError(Code.INTERNAL_ERROR, f"Process exited prior to exec: libvirt: error : {limit}")
    if not has_feature(domain, "ap"):
        raise qemu_died(domain.name, f"-device vfio-ap: No 'ap-bus' bus found for device '{VFIO_AP}'")
    for mdev in domain.mdevs:
        if (group := room.mdevs[mdev.uuid]) not in room.groups:
            said = f"failed to open /dev/vfio/{group}: No such file or directory"
            raise qemu_died(domain.name, f"-device vfio-ap: vfio {mdev.uuid}: {said}")


def has_feature(domain: Domain, name: str) -> bool:
    """Tell whether the guest's CPU has a feature that the host has.

    The host's own model brings it along unless it is turned off; a named model has to ask (vfio-ap.rst).
    """
    policy = domain.features.get(name)
    if domain.cpu_mode in ("host-model", "host-passthrough", "maximum"):
        return policy not in _OFF
    return policy is not None and policy not in _OFF


def sees_adapters(domain: Domain) -> bool:
    """Tell whether the guest's AP bus finds its queues: without APFT no driver takes them (vfio-ap.rst)."""
    return bool(domain.mdevs) and has_feature(domain, "ap") and has_feature(domain, "apft")


def departs(domain: Domain, *, kernel_migrates: bool, migratable: bool, post_copy: bool) -> None:
    """Check what stops a migration at its source. Raises LibvirtError.

    ``kernel_migrates``: whether the node's kernel and QEMU have the vfio-ap series; ``migratable``: whether the
    kernel offers it for this device, which its first version leaves to an attribute.
    """
    if not domain.mdevs:
        return
    uuid = domain.mdevs[0].uuid
    reasons = []
    if not kernel_migrates:
        reasons.append("non-migratable device: vfio-ap")
    elif not migratable:
        reasons.append(f"{uuid}: VFIO migration is not supported in kernel")
    if reasons:
        raise LibvirtError(Code.OPERATION_INVALID, f"cannot migrate domain: {'; '.join(reasons)}")
    if post_copy:
        said = f"{uuid}: VFIO migration is not supported with postcopy migration"
        raise LibvirtError(Code.OPERATION_FAILED, f"job 'migration out' failed: {said}")
