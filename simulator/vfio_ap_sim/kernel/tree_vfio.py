"""/sys/devices/vfio_ap, the buses and classes that link to it, and IOMMU groups (kernel-ap.md 3.1, 3.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from vfio_ap_sim.kernel import bitmap
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import Uevents
from vfio_ap_sim.kernel.mdev import PAGE_TEXT, Matrix, Mdev
from vfio_ap_sim.kernel.mdevs import VFIO_MAJOR, Mdevs
from vfio_ap_sim.kernel.migration.states import State
from vfio_ap_sim.kernel.nodes import Directory, File, Link, Node, folder, merged
from vfio_ap_sim.kernel.profile import Profile, Tokens
from vfio_ap_sim.kernel.tree_ap import action_of

_TYPE = "vfio_ap-passthrough"
_ONE_PAGE_OF_APQNS = 511


@dataclass(frozen=True, slots=True)
class VfioTree:
    """Makes the nodes of vfio_ap; everything is absent while the module is not loaded."""

    profile: Profile
    mdevs: Callable[[], Mdevs | None]
    uevents: Uevents
    unsafe: Callable[[str], None]
    """Told of a read that would overrun a page on this kernel (V-12)."""

    # -- /sys/devices/vfio_ap

    def device_directory(self) -> Directory | None:
        """Return /sys/devices/vfio_ap (V-1)."""
        if self.mdevs() is None:
            return None
        return folder(
            {
                "matrix": self._matrix(),
                "module": Link("../../module/vfio_ap"),
                "uevent": File(lambda: "", lambda text: None),
            }
        )

    def _matrix(self) -> Directory:
        def synthesize(text: str) -> None:
            variables = {"SYNTH_UUID": "0"}, {"DRIVER": "vfio_ap"}
            self.uevents.send(action_of(text), "/devices/vfio_ap/matrix", "matrix", *variables)

        fixed: dict[str, Node] = {
            "driver": Link("../../../bus/matrix/drivers/vfio_ap"),
            "mdev_supported_types": folder({_TYPE: self._type()}),
            "subsystem": Link("../../../bus/matrix"),
            "uevent": File(lambda: "DRIVER=vfio_ap\n", synthesize),
        }
        tokens = self.profile.tokens
        if tokens is not Tokens.ABSENT:
            fixed["features"] = File(lambda: f"{tokens.value}\n")

        def mdev(uuid: str) -> Directory | None:
            found = self._loaded().by_uuid.get(uuid)
            return self._mdev(found) if found else None

        return merged(fixed, lambda: self._loaded().by_uuid, mdev)

    def _type(self) -> Directory:
        return folder(
            {
                "available_instances": File(lambda: f"{self._loaded().available}\n"),
                "create": File(store=lambda text: self._loaded().write_create(text)),
                "device_api": File(lambda: "vfio-ap\n"),
                "devices": self._links("../../../{uuid}"),
                "name": File(lambda: "VFIO AP Passthrough Device\n"),
            }
        )

    def _mdev(self, mdev: Mdev) -> Directory:
        group = Link(f"../../../../kernel/iommu_groups/{mdev.group}")
        if mdev.leaving:
            return folder({"iommu_group": group}, mdev)
        mdevs = self._loaded()
        driver = mdevs.driver

        def synthesize(text: str) -> None:
            self.uevents.send(action_of(text), mdev.path, "mdev", {"SYNTH_UUID": "0"}, {"DRIVER": "vfio_ap_mdev"})

        children: dict[str, Node] = {
            "control_domains": File(lambda: mdev.assigned.control_text(), lock=driver.lock),
            "driver": Link("../../../../bus/mdev/drivers/vfio_ap_mdev"),
            "guest_matrix": File(lambda: self._show(mdev, mdev.shadow), lock=driver.lock),
            "iommu_group": group,
            "matrix": File(lambda: self._show(mdev, mdev.assigned), lock=driver.lock),
            "mdev_type": Link(f"../mdev_supported_types/{_TYPE}"),
            "remove": File(store=lambda text: mdevs.write_remove(mdev, text)),
            "subsystem": Link("../../../../bus/mdev"),
            "uevent": File(lambda: "DRIVER=vfio_ap_mdev\n", synthesize),
            "vfio-dev": folder({f"vfio{mdev.cdev}": self._cdev(mdev)}),
            "assign_adapter": File(store=lambda text: driver.write_assign(mdev, "adapter", text)),
            "assign_domain": File(store=lambda text: driver.write_assign(mdev, "domain", text)),
            "assign_control_domain": File(store=lambda text: driver.write_control(mdev, text, assign=True)),
            "unassign_adapter": File(store=lambda text: driver.write_unassign(mdev, "adapter", text)),
            "unassign_domain": File(store=lambda text: driver.write_unassign(mdev, "domain", text)),
            "unassign_control_domain": File(store=lambda text: driver.write_control(mdev, text, assign=False)),
        }
        if self.profile.ap_config:
            children["ap_config"] = File(
                lambda: mdev.assigned.masks_text(), lambda text: driver.write_ap_config(mdev, text)
            )
        if self.profile.migratable_file:
            children["migratable"] = File(
                lambda: f"{int(mdev.migratable)}\n", lambda text: _store_migratable(mdev, text)
            )
        return folder(children, mdev)

    def _show(self, mdev: Mdev, matrix: Matrix) -> str:
        if matrix.size() > _ONE_PAGE_OF_APQNS and not self.profile.safe_matrix_read:
            self.unsafe(f"{mdev.uuid}: {matrix.size()} APQNs read into one page of {PAGE_TEXT + 1} bytes")
        return matrix.text()

    def _cdev(self, mdev: Mdev) -> Directory:
        return folder(
            {
                "device": Link(f"../../../{mdev.uuid}"),
                "subsystem": Link("../../../../../../class/vfio-dev"),
                "uevent": File(lambda: "", lambda text: None),
            }
        )

    # -- what links to it

    def mdev_bus(self) -> Directory:
        """Return /sys/bus/mdev."""

        def driver(name: str) -> Directory | None:
            if name != "vfio_ap_mdev" or self.mdevs() is None:
                return None
            fixed: dict[str, Node] = {
                "bind": File(store=_no_device),
                "module": Link("../../../../module/vfio_ap"),
                "uevent": File(store=lambda text: None),
                "unbind": File(store=_no_device),
            }
            links = self._links("../../../../devices/vfio_ap/matrix/{uuid}")
            return merged(fixed, links.names, links.child)

        return folder(
            {
                "devices": self._links("../../../devices/vfio_ap/matrix/{uuid}"),
                "drivers": Directory(lambda: ["vfio_ap_mdev"] if self.mdevs() else [], driver),
                "drivers_autoprobe": File(lambda: "1\n", lambda text: None),
                "drivers_probe": File(store=_no_device),
                "uevent": File(store=lambda text: None),
            }
        )

    def matrix_bus(self) -> Directory | None:
        """Return /sys/bus/matrix."""
        if self.mdevs() is None:
            return None
        driver = folder(
            {"matrix": Link("../../../../devices/vfio_ap/matrix"), "uevent": File(store=lambda t: None)}
        )
        return folder(
            {
                "devices": folder({"matrix": Link("../../../devices/vfio_ap/matrix")}),
                "drivers": folder({"vfio_ap": driver}),
                "drivers_autoprobe": File(lambda: "1\n", lambda text: None),
                "drivers_probe": File(store=_no_device),
                "uevent": File(store=lambda text: None),
            }
        )

    def mdev_class(self) -> Directory:
        """Return /sys/class/mdev_bus."""
        return self._if_loaded({"matrix": Link("../../devices/vfio_ap/matrix")})

    def module(self) -> Directory | None:
        """Return /sys/module/vfio_ap."""
        if self.mdevs() is None:
            return None
        drivers = {
            "ap:vfio_ap": Link("../../../bus/ap/drivers/vfio_ap"),
            "mdev:vfio_ap_mdev": Link("../../../bus/mdev/drivers/vfio_ap_mdev"),
        }
        users = [mdev for mdev in self._loaded().by_uuid.values() if mdev.guest is not None]
        return folder(
            {
                "coresize": File(lambda: "36864\n"),
                "drivers": folder(drivers),
                "holders": folder({}),
                "initsize": File(lambda: "0\n"),
                "initstate": File(lambda: "live\n"),
                "refcnt": File(lambda: f"{len(users)}\n"),
                "taint": File(lambda: "\n"),
                "uevent": File(store=lambda text: None),
            }
        )

    def iommu_groups(self) -> Directory:
        """Return /sys/kernel/iommu_groups."""

        def group(mdev: Mdev) -> Directory:
            link = Link(f"../../../../devices/vfio_ap/matrix/{mdev.uuid}")
            return folder(
                {
                    "devices": folder({mdev.uuid: link}),
                    "name": File(lambda: "vfio-noiommu\n"),
                    "reserved_regions": File(lambda: ""),
                    "type": File(lambda: "unknown\n", lambda text: None),
                }
            )

        return self._by_group(group)

    def vfio_class(self) -> Directory:
        """Return /sys/class/vfio."""
        return self._by_group(lambda mdev: Link(f"../../devices/virtual/vfio/{mdev.group}"))

    def vfio_dev_class(self) -> Directory:
        """Return /sys/class/vfio-dev."""
        visible = [mdev for mdev in self._all() if not mdev.leaving]
        target = "../../devices/vfio_ap/matrix/{0.uuid}/vfio-dev/vfio{0.cdev}"
        return folder({f"vfio{mdev.cdev}": Link(target.format(mdev)) for mdev in visible})

    def virtual_devices(self) -> Directory:
        """Return /sys/devices/virtual/vfio."""

        def device(mdev: Mdev) -> Directory:
            node = f"MAJOR={VFIO_MAJOR}\nMINOR={mdev.group}\nDEVNAME=vfio/{mdev.group}\n"
            return folder(
                {
                    "dev": File(lambda: f"{VFIO_MAJOR}:{mdev.group}\n"),
                    "subsystem": Link("../../../../class/vfio"),
                    "uevent": File(lambda: node, lambda text: None),
                }
            )

        return self._by_group(device)

    def dev_directory(self) -> Directory:
        """Return /dev/vfio: names only, what is behind them is not a file."""
        groups = self._by_group(lambda mdev: File(_not_readable, restricted=0o600))
        return merged({"vfio": File(_not_readable, restricted=0o666)}, groups.names, groups.child)

    def _by_group(self, make: Callable[[Mdev], Node]) -> Directory:
        def child(name: str) -> Node | None:
            return next((make(mdev) for mdev in self._all() if str(mdev.group) == name), None)

        return Directory(lambda: [str(mdev.group) for mdev in self._all()], child)

    def _links(self, target: str) -> Directory:
        """Return a directory with a link for each mdev whose removal has not begun."""

        def child(uuid: str) -> Link | None:
            mdevs = self.mdevs()
            return Link(target.format(uuid=uuid)) if mdevs and mdevs.visible(uuid) else None

        return Directory(lambda: [mdev.uuid for mdev in self._all() if not mdev.leaving], child)

    def _if_loaded(self, children: dict[str, Node]) -> Directory:
        return folder(children if self.mdevs() else {})

    def _all(self) -> list[Mdev]:
        mdevs = self.mdevs()
        return list(mdevs.by_uuid.values()) if mdevs else []

    def _loaded(self) -> Mdevs:
        mdevs = self.mdevs()
        if mdevs is None:
            raise SysfsError(errno.ENODEV)
        return mdevs


def _store_migratable(mdev: Mdev, text: str) -> None:
    """Store to ``migratable`` of the series' first version: 0 or 1, and not while a migration is on (L-1)."""
    number = bitmap.kstrtoul(text)
    if number > 1:
        raise SysfsError(errno.EINVAL)
    if mdev.migration is not None and mdev.migration.state is not State.RUNNING:
        raise SysfsError(errno.EBUSY)
    mdev.migratable = bool(number)


def _no_device(text: str) -> None:
    raise SysfsError(errno.ENODEV)


def _not_readable() -> str:
    raise SysfsError(errno.EINVAL)
