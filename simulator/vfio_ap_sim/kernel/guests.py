"""Running guests, as far as vfio_ap and /proc know them. Their coming and going is in ``sessions.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

COMM = "qemu-system-s39"
"""TASK_COMM_LEN cuts qemu-system-s390x."""


@dataclass(slots=True)
class Guest:
    """One KVM guest with at most one vfio-ap device (V-27)."""

    name: str
    pid: int
    obeys: bool
    """Whether it gives the device back when asked to (V-33)."""
    adapters: int = 0
    domains: int = 0
    control: int = 0
    """The masks in its CRYCB: what the guest sees now."""
    told: int = 0
    """How many times its QEMU was told of a changed AP configuration (V-28)."""
    asked: int = 0
    """How many device requests it got."""
    has_device: bool = False
    descriptors: dict[int, str] = field(default_factory=dict)
    """What /proc/<pid>/fd shows."""

    def set_masks(self, adapters: int, domains: int, control: int, *, tell: bool) -> None:
        """Replace the masks (``kvm-s390.c:kvm_arch_crypto_set_masks``) and tell QEMU if the kernel does."""
        self.adapters, self.domains, self.control = adapters, domains, control
        self.told += tell

    def open_device(self, group: int) -> None:
        """Hold the descriptors of a VFIO group and its device."""
        self.has_device = True
        self.descriptors |= {
            20: "/dev/vfio/vfio",
            21: f"/dev/vfio/{group}",
            22: "anon_inode:kvm-vfio",
            23: "anon_inode:[vfio-device]",
        }

    def close_device(self) -> None:
        """Let go of them."""
        self.has_device = False
        for number in (20, 21, 22, 23):
            self.descriptors.pop(number, None)


def new_guest(name: str, pid: int, *, obeys: bool) -> Guest:
    """Return a guest without a device."""
    return Guest(name, pid, obeys, descriptors={0: "/dev/null", 10: "/dev/kvm", 11: "anon_inode:kvm-vm"})
