"""What is offered to the kubelet, as data, and the names made from it. Does no I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

SOCKET_GLOB: Final = "vfio-ap-*.sock"
"""Every socket that this plugin ever makes matches; nobody else's may."""

_RESOURCE = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GROUP = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Grant:
    """One matrix that this node may hand to a pod.

    Raises:
        ValueError: a field could not stand in a resource name, a device ID or a device path.
    """

    resource: str
    """Extended resource, ``ap.s390x.io/<matrix>``."""
    uuid: str
    """The mdev's UUID in lower case; it is the device's ID too, so that pod-resources answers with it."""
    vfio_group: str
    """Number of the mdev's VFIO group, decimal, as in ``/dev/vfio/<group>``."""
    healthy: bool
    """Whether a pod may get it now: the mdev exists and holds the whole matrix."""

    def __post_init__(self) -> None:
        """Refuse what must not reach a path or the kubelet."""
        for pattern, name in ((_RESOURCE, "resource"), (_UUID, "uuid"), (_GROUP, "vfio_group")):
            if not pattern.fullmatch(getattr(self, name)):
                raise ValueError(f"not a {name}: {getattr(self, name)!r}")


def env_name(resource: str) -> str:
    """Return the variable in which KubeVirt's launcher looks for the UUIDs of a resource.

    Upper case, ``/`` and ``.`` become ``_``, dashes stay (facts: kubevirt 1.1).
    """
    return "MDEV_PCI_RESOURCE_" + resource.upper().replace("/", "_").replace(".", "_")


def socket_name(resource: str) -> str:
    """Return the file name of a resource's socket: short for any resource, and stable over restarts."""
    return f"vfio-ap-{hashlib.sha256(resource.encode()).hexdigest()[:12]}.sock"
