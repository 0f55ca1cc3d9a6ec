"""The mediated devices: what they hold, what a guest gets, and who uses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from vfio_ap.host.masks import HostMasks
from vfio_ap.host.ops import Link, List, Op, Read
from vfio_ap.host.view import GUEST_DRIVER, PAGE_QUEUES, Holder, LiveMigration, MdevView, QueueView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix, parse_matrix_file
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.bus import Bus
from vfio_ap_agent.inventory.files import Changed, Files, nonsense

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def listing_ops() -> list[Op]:
    """Return what tells which devices there are."""
    return [Read(f"{paths.MATRIX}/features"), List(paths.MATRIX), List(paths.MDEV_BUS)]


class Mdevs:
    """The devices as read. A directory that the mdev bus no longer links to is being removed (V-33)."""

    def __init__(self, files: Files) -> None:
        self._files = files
        names = files.names(paths.MATRIX)
        self.loaded = names is not None
        self.all = [name for name in names or () if _UUID.fullmatch(name)]
        there = set(files.names(paths.MDEV_BUS) or ())
        self.live = [uuid for uuid in self.all if uuid in there]
        self.tokens = tuple((files.text(f"{paths.MATRIX}/features") or "").split())
        self._members: dict[str, set[str]] = {}

    def attribute_ops(self) -> Iterable[Op]:
        """Return the third batch: what is read without vfio_ap's lock (V-13)."""
        for uuid in self.all:
            yield List(paths.mdev(uuid))
            yield Link(f"{paths.mdev(uuid)}/iommu_group")
        for uuid in self.live:
            yield List(f"{paths.mdev(uuid)}/vfio-dev")
            yield Read(f"{paths.mdev(uuid)}/ap_config")
            yield Read(f"{paths.mdev(uuid)}/migratable")

    def learn_members(self) -> None:
        """Take in which attributes the devices have. Raises Changed when one went meanwhile."""
        for uuid in self.live:
            members = self._files.names(paths.mdev(uuid))
            if members is None or "remove" not in members:
                raise Changed(uuid)
            self._members[uuid] = set(members)

    @property
    def ap_config(self) -> bool:
        """Whether configurations are written in one piece; before there is a device the token tells (V-2)."""
        return any("ap_config" in m for m in self._members.values()) or "ap_config" in self.tokens

    @property
    def live_migration(self) -> LiveMigration:
        """What the kernel can do (L-1): only a device shows whether it is the first version of the series."""
        if any("migratable" in members for members in self._members.values()):
            return "v1"
        if "migratable" not in self.tokens:
            return "no"
        return "v4" if self._members else "unknown"

    def matrix_ops(self, masks: HostMasks, limits: tuple[int, int], trusted: Collection[str]) -> Iterable[Op]:
        """Return the reads under vfio_ap's lock, but none that could overrun a page on an old kernel (V-12).

        ``trusted`` devices are ours, and we gave them no more than fits.
        """
        for uuid in self.live:
            path = paths.mdev(uuid)
            if "ap_config" not in self._members[uuid]:
                if uuid in trusted or _most_queues(masks, limits) <= PAGE_QUEUES:
                    yield from (Read(f"{path}/{name}") for name in ("matrix", "guest_matrix", "control_domains"))
            elif len(self._configured(uuid)) <= PAGE_QUEUES:
                yield Read(f"{path}/guest_matrix")

    def _configured(self, uuid: str) -> Matrix:
        return Matrix.from_ap_config(self._files.needed(f"{paths.mdev(uuid)}/ap_config"))

    def views(self, bus: Bus, queues: Mapping[Apqn, QueueView], people: People) -> dict[str, MdevView]:
        """Return the devices."""
        views = {}
        for uuid in self.all:
            path = paths.mdev(uuid)
            group = (self._files.target(f"{path}/iommu_group") or "").rpartition("/")[2]
            holders = people.holders(
                group, self._files.names(f"{path}/vfio-dev") or () if uuid in self.live else ()
            )
            if uuid not in self.live:
                views[uuid] = MdevView(uuid, None, None, group, holders, leaving=True)
                continue
            matrix, guest = self._matrices(uuid, bus, queues)
            used = tuple(q for q in matrix if (s := queues.get(q)) and s.status == "in use") if matrix else ()
            migratable = self._migratable(f"{path}/migratable")
            views[uuid] = MdevView(uuid, matrix, guest, group, holders, used, migratable)
        return views

    def _matrices(
        self, uuid: str, bus: Bus, queues: Mapping[Apqn, QueueView]
    ) -> tuple[Matrix | None, Matrix | None]:
        path = paths.mdev(uuid)
        if "ap_config" in self._members[uuid]:
            matrix = self._configured(uuid)
            if len(matrix) > PAGE_QUEUES:
                return matrix, _guest_by_queues(matrix, bus.present, queues)
        elif self._files.was_read(f"{path}/matrix"):
            adapters, domains = parse_matrix_file(self._files.needed(f"{path}/matrix"))
            matrix = Matrix(adapters, domains, self._control(f"{path}/control_domains"))
        else:
            return None, None
        adapters, domains = parse_matrix_file(self._files.needed(f"{path}/guest_matrix"))
        return matrix, Matrix(adapters, domains, matrix.control_domains & bus.present.control_domains)

    def _migratable(self, path: str) -> bool | None:
        text = self._files.text(path)
        if text is not None and text.strip() not in ("0", "1"):
            raise nonsense(path, text)
        return None if text is None else text.strip() == "1"

    def _control(self, path: str) -> IdSet:
        lines = self._files.needed(path).split()
        if not all(re.fullmatch(r"00[0-9a-f]{2}", line) for line in lines):
            raise nonsense(path, " ".join(lines))
        return IdSet.from_ids(int(line, 16) for line in lines)


def _most_queues(masks: HostMasks, limits: tuple[int, int]) -> int:
    """Return how many queues a matrix can have at most, since none of them is host-reserved (3.3).

    Its adapters are all out of apmask, or its domains are all out of aqmask.
    """
    adapters, domains = IdSet((2 << limits[0]) - 1), IdSet((2 << limits[1]) - 1)
    by_row = len(adapters - masks.adapters) * len(domains)
    by_column = len(adapters) * len(domains - masks.domains)
    return max(by_row, by_column)


def _guest_by_queues(matrix: Matrix, present: Matrix, queues: Mapping[Apqn, QueueView]) -> Matrix:
    """Return what the kernel's filter leaves of a matrix too large for its file (3.5)."""
    domains = matrix.domains & present.domains
    kept = []
    for adapter in matrix.adapters & present.adapters:
        row = [queues.get(Apqn(adapter, domain)) for domain in domains]
        if all(
            queue is not None and queue.driver == GUEST_DRIVER and queue.status != "unassigned" for queue in row
        ):
            kept.append(adapter)
    return Matrix(IdSet.from_ids(kept), domains, matrix.control_domains & present.control_domains)


class People:
    """Who has which file under /dev/vfio open (V-36): groups are ``7``, devices ``devices/vfio7``."""

    def __init__(self, holders: Mapping[str, tuple[Holder, ...]] | None) -> None:
        self._holders = holders

    def holders(self, group: str, devices: Iterable[str]) -> tuple[Holder, ...] | None:
        """Return the holders of a group or its devices; None when the host's processes cannot be seen."""
        if self._holders is None or not group:
            return None
        files = (group, *(f"devices/{name}" for name in devices))
        return tuple(sorted({holder for file in files for holder in self._holders.get(file, ())}))
