"""virt-handler's removal of mdevs that are not its own: what it would remove, and how.

After MediatedDevicesHandlingDisabled (pkg/virt-config/virt-config.go) and removeUndesiredMDEVs
(pkg/virt-handler/device-manager/mediated_devices_types.go) of v1.8.4. It takes vfio-ap's mdevs with it unless the
KubeVirt object has one of two guards.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePosixPath

from vfio_ap.host.ops import Data, HostOps, Link, List, Names, Read, Target, Write
from vfio_ap_sim.kubevirt.api import Document

DEVICES = "/sys/bus/mdev/devices"
DEADLINE = 3600.0
"""Seconds for one removal: the kernel holds the writer until no guest has the device."""


def switched_off(kubevirt: Document) -> bool:
    """Tell whether virt-handler leaves mdevs alone altogether."""
    configuration = kubevirt["spec"].get("configuration", {})
    gates = configuration.get("developerConfiguration", {}).get("featureGates", ())
    mediated = configuration.get("mediatedDevicesConfiguration", {})
    return mediated.get("enabled") is False or "DisableMDEVConfiguration" in gates


def kept_types(kubevirt: Document) -> set[str]:
    """Return the names and ids of types whose mdevs stay: those that KubeVirt makes, and others' by agreement."""
    configuration = kubevirt["spec"].get("configuration", {})
    mediated = configuration.get("mediatedDevicesConfiguration", {})
    made = mediated.get("mediatedDeviceTypes") or mediated.get("mediatedDevicesTypes") or ()
    agreed = [
        entry["mdevNameSelector"]
        for entry in configuration.get("permittedHostDevices", {}).get("mediatedDevices", ())
        if entry.get("externalResourceProvider")
    ]
    return {_joined(name) for name in (*made, *agreed)}


async def doomed(host: HostOps, kept: Iterable[str]) -> list[str]:
    """Return the UUIDs of the node's mdevs that are to go."""
    (listing,) = await host.run([List(DEVICES)], deadline=DEADLINE)
    kept = set(kept)
    found = []
    for uuid in listing.names if isinstance(listing, Names) else ():
        kind = f"{DEVICES}/{uuid}/mdev_type"
        name, link = await host.run([Read(f"{kind}/name"), Link(kind)], deadline=DEADLINE)
        if isinstance(name, Data) and _joined(name.content.decode()) in kept:
            continue
        if isinstance(link, Target) and PurePosixPath(link.target).name not in kept:
            found.append(uuid)
    return found


async def sweep(host: HostOps, kubevirt: Document) -> None:
    """Remove what is to go, one by one: one that a guest does not let go of holds up the rest.

    That a removal fails is only logged by virt-handler, and is not noticed here.
    """
    if switched_off(kubevirt):
        return
    for uuid in await doomed(host, kept_types(kubevirt)):
        with suppress(TimeoutError):
            await host.run([Write(f"{DEVICES}/{uuid}/remove", b"1")], deadline=DEADLINE)


def _joined(name: str) -> str:
    return name.strip().replace(" ", "_")
