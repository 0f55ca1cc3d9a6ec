"""The vfio_ap driver: assignment, sharing, filtering and hot plug of its mdevs (kernel-ap.md 3.3 to 3.5, 3.9).

Creation and removal of mdevs is in ``mdevs.py``; opening and closing by guests in ``sessions.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from vfio_ap_sim.kernel.bitmap import has, ids_of, kstrtoul, parse_absolute
from vfio_ap_sim.kernel.bus import Bus
from vfio_ap_sim.kernel.devices import VFIO_DRIVER, Queue, queue_name
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import WARNING, KernelLog
from vfio_ap_sim.kernel.filtering import filter_control, filter_matrix, without
from vfio_ap_sim.kernel.hardware import Hardware, Qci
from vfio_ap_sim.kernel.mdev import EMPTY, Matrix, Mdev
from vfio_ap_sim.kernel.resets import Resetter
from vfio_ap_sim.kernel.tasks import Mutex, Op, T, at_once, holding

_CONFIG_LENGTH = 201
_FIELDS = {"adapter": "adapters", "domain": "domains", "control_domain": "control"}


class VfioAp:
    """The loaded module."""

    name = VFIO_DRIVER

    def __init__(
        self,
        bus: Bus,
        log: KernelLog,
        resetter: Resetter,
        hardware: Hardware,
        info: Qci,
        hazard: Callable[[str], None],
    ) -> None:
        self.bus = bus
        self.profile = bus.profile
        self.log = log
        self.resetter = resetter
        self.hardware = hardware
        self.hazard = hazard
        """Told of what this kernel would do to its own memory."""
        self.info = info
        """The driver's own copy of QCI, changed when a scan begins."""
        self.mdevs: list[Mdev] = []
        """The newest first, as the driver's list is; conflicts are reported for the first hit."""
        self.lock = Mutex()
        """``guests_lock`` and ``mdevs_lock`` in one: who changes takes both, readers the latter, and both are held
        while resets are awaited (V-14, V-19)."""
        self.probed_words: dict[int, int] = {}
        """TAPQ words by APQN, as of when the queues were probed; the first migration series goes by them."""
        self._bound: dict[int, int] = {}

    # -- queues

    def probe(self, queue: Queue) -> Op[None]:
        """Take a queue and filter the mdev that has it assigned (``vfio_ap_mdev_probe_queue``)."""

        def take() -> Op[None]:
            self._bound[queue.card.id] = self._bound.get(queue.card.id, 0) | 1 << queue.domain
            self.probed_words[queue.apqn] = self.hardware.word(queue.apqn, facilities=True)
            self.resetter.forget(queue)
            mdev = self.mdev_of(queue)
            if mdev is not None and not (mdev.added.adapters or mdev.added.domains):
                yield from self._refilter(mdev)

        yield from holding(self.lock, take())

    def remove(self, queue: Queue) -> Op[None]:
        """Give a queue up: its adapter leaves the guest at once (V-25, ``vfio_ap_mdev_remove_queue``)."""

        def give() -> Op[None]:
            adapter, mdev = queue.card.id, self.mdev_of(queue)
            if mdev and has(mdev.shadow.adapters, adapter) and has(mdev.shadow.domains, queue.domain):
                mdev.shadow = replace(mdev.shadow, adapters=mdev.shadow.adapters & ~(1 << adapter))
                self.update_guest(mdev)
                yield from self._reset_adapters(mdev, 1 << adapter)
            elif has(self.info.adapters, adapter) and has(self.info.usage, queue.domain):
                yield from self.resetter.reset([queue])
            self._bound[adapter] &= ~(1 << queue.domain)
            del self.probed_words[queue.apqn]

        yield from holding(self.lock, give())

    def _passable(self, adapter: int) -> int:
        """Return the domains of an adapter whose queues a guest may have (``_queue_passable``)."""
        return self._bound.get(adapter, 0) & ~self.resetter.failed.get(adapter, 0)

    def queues_of(self, matrix: Matrix) -> list[Queue]:
        """Return the queues of vfio_ap among a matrix's APQNs."""
        queues = self.bus.queues
        return [
            queues[adapter << 8 | domain]
            for adapter in ids_of(matrix.adapters)
            for domain in ids_of(matrix.domains & self._bound.get(adapter, 0))
        ]

    def mdev_of(self, queue: Queue) -> Mdev | None:
        """Return the mdev that a queue is assigned to."""
        for mdev in self.mdevs:
            if has(mdev.assigned.adapters, queue.card.id) and has(mdev.assigned.domains, queue.domain):
                return mdev
        return None

    def status(self, queue: Queue) -> str:
        """Return what ``status`` of a queue shows (Q-18, ``status_show``)."""
        mdev = self.mdev_of(queue)
        if mdev is None:
            return "unassigned\n"
        passed = has(mdev.shadow.adapters, queue.card.id) and has(mdev.shadow.domains, queue.domain)
        return "in use\n" if mdev.guest is not None and passed else "assigned\n"

    # -- assignment

    def write_assign(self, mdev: Mdev, kind: str, text: str) -> Op[None]:
        """Store to ``assign_adapter`` or ``assign_domain`` (3.3)."""
        number = _parse_id(text, mdev.max_adapter if kind == "adapter" else mdev.max_domain)

        def assign() -> Op[None]:
            wanted = _with(mdev.assigned, kind, number)
            if wanted != mdev.assigned:
                self._check_free(mdev, wanted)
                mdev.assigned = wanted
                yield from self._refilter(mdev)

        yield from self.updating(assign())

    def write_unassign(self, mdev: Mdev, kind: str, text: str) -> Op[None]:
        """Store to ``unassign_adapter`` or ``unassign_domain``: unplug, reset (V-17), no refilter (V-24)."""
        number = _parse_id(text, mdev.max_adapter if kind == "adapter" else mdev.max_domain)
        gone = _with(EMPTY, kind, number)
        yield from holding(self.lock, self._unplug(mdev, gone))

    def write_control(self, mdev: Mdev, text: str, *, assign: bool) -> Op[None]:
        """Store to ``assign_control_domain`` or its counterpart (V-18)."""
        number = _parse_id(text, mdev.max_domain)

        def store() -> None:
            bit = 1 << number
            control = mdev.assigned.control | bit if assign else mdev.assigned.control & ~bit
            mdev.assigned = replace(mdev.assigned, control=control)
            self._take_shadow(mdev, filter_control(mdev.assigned, mdev.shadow, self.info))

        yield from holding(self.lock, at_once(store))

    def write_ap_config(self, mdev: Mdev, text: str) -> Op[None]:
        """Store to ``ap_config``: all or nothing (3.4)."""

        def store() -> Op[None]:
            yield from self.set_config(mdev, _parse_config(text))

        yield from self.updating(store())

    def set_config(self, mdev: Mdev, wanted: Matrix) -> Op[None]:
        """Replace what is assigned, as ``ap_config`` and a migration do; under ``updating`` only.

        Raises EADDRNOTAVAIL, EADDRINUSE or ENODEV, in this order, with nothing changed (V-21).
        """
        self._check_free(mdev, wanted)
        if wanted.adapters >> mdev.max_adapter + 1 or (wanted.domains | wanted.control) >> mdev.max_domain + 1:
            raise SysfsError(errno.ENODEV)
        gone = without(mdev.assigned, wanted)
        yield from self._unplug(mdev, Matrix(adapters=gone.adapters))
        yield from self._unplug(mdev, Matrix(domains=gone.domains))
        mdev.assigned = wanted
        yield from self._refilter(mdev, control=True)

    def _check_free(self, mdev: Mdev, wanted: Matrix) -> None:
        """Refuse what the host owns, then what another mdev has (3.3 steps 4 and 5)."""
        if self.bus.host_owns_any(wanted.adapters, wanted.domains):
            raise SysfsError(errno.EADDRNOTAVAIL)
        holder = self._holder(wanted, but=mdev)
        if holder is not None:
            for apqn in wanted.common(holder.assigned).apqns():
                self.log.write(
                    WARNING,
                    f"vfio_ap_mdev {mdev.uuid}: Userspace may not assign queue {queue_name(apqn)} to mdev: "
                    f"already assigned to {holder.uuid}",
                )
            raise SysfsError(errno.EADDRINUSE)

    def check_in_use(self, adapters: int, domains: int) -> Op[bool]:
        """Whether an mdev has any of adapters x domains (K-10, ``vfio_ap_mdev_resource_in_use``)."""

        def check() -> bool:
            asked = Matrix(adapters, domains)
            holder = self._holder(asked)
            for apqn in holder.assigned.common(asked).apqns() if holder else ():
                assert holder is not None
                self.log.write(
                    WARNING,
                    f"vfio_ap_mdev {holder.uuid}: Can not reserve queue {queue_name(apqn)} for host driver: "
                    "in use by mdev",
                )
            return holder is not None

        return holding(self.lock, at_once(check))

    def _holder(self, wanted: Matrix, but: Mdev | None = None) -> Mdev | None:
        return next((mdev for mdev in self.mdevs if mdev is not but and mdev.assigned.overlaps(wanted)), None)

    # -- shadow

    def _unplug(self, mdev: Mdev, gone: Matrix) -> Op[None]:
        """Take ids out of assignment and shadow, and reset those queues that the shadow had."""
        leaving = Matrix(
            mdev.shadow.adapters & gone.adapters if gone.adapters else mdev.shadow.adapters,
            mdev.shadow.domains & gone.domains if gone.domains else mdev.shadow.domains,
        )
        queues = self.queues_of(leaving) if gone.adapters or gone.domains else []
        mdev.assigned = without(mdev.assigned, gone)
        self._take_shadow(mdev, without(mdev.shadow, gone))
        yield from self.resetter.reset(queues)

    def _refilter(self, mdev: Mdev, *, control: bool = False) -> Op[None]:
        """Filter anew and reset what fell out by it (V-24, V-26)."""
        shadow, lost = filter_matrix(mdev.assigned, mdev.shadow, self.info, self._passable)
        if control:
            shadow = filter_control(mdev.assigned, shadow, self.info)
        self._take_shadow(mdev, shadow)
        yield from self._reset_adapters(mdev, lost)

    def _reset_adapters(self, mdev: Mdev, adapters: int) -> Op[None]:
        yield from self.resetter.reset(self.queues_of(Matrix(adapters, mdev.shadow.domains)))

    def _take_shadow(self, mdev: Mdev, shadow: Matrix) -> None:
        if shadow != mdev.shadow:
            mdev.shadow = shadow
            self.update_guest(mdev)

    def update_guest(self, mdev: Mdev) -> None:
        """Give the shadow to the guest, if one runs (V-28)."""
        if mdev.guest is not None:
            shadow = mdev.shadow
            mdev.guest.set_masks(shadow.adapters, shadow.domains, shadow.control, tell=self.profile.config_event)

    # -- host configuration changes (V-40)

    def on_config_changed(self, new: Qci, old: Qci) -> Op[None]:
        """Take what the host lost from every guest; note what it gained."""

        def change() -> None:
            self.info = new
            lost = Matrix(old.adapters & ~new.adapters, old.usage & ~new.usage, old.control & ~new.control)
            gained = Matrix(new.adapters & ~old.adapters, new.usage & ~old.usage, new.control & ~old.control)
            for mdev in self.mdevs:
                self._take_shadow(mdev, without(mdev.shadow, lost))
                assigned = mdev.assigned
                mdev.added = Matrix(
                    assigned.adapters & gained.adapters,
                    assigned.domains & gained.domains,
                    assigned.control & gained.control,
                )

        yield from holding(self.lock, at_once(change))

    def on_scan_complete(self) -> Op[None]:
        """Plug in what was gained, once its queues are bound."""

        def change() -> Op[None]:
            for mdev in tuple(self.mdevs):
                added, mdev.added = mdev.added, EMPTY
                if added.adapters or added.domains:
                    yield from self._refilter(mdev, control=bool(added.control))
                elif added.control:
                    self._take_shadow(mdev, filter_control(mdev.assigned, mdev.shadow, self.info))

        yield from holding(self.lock, change())

    def locked(self, body: Op[T]) -> Op[T]:
        """Run an operation under the driver's lock."""
        return holding(self.lock, body)

    def updating(self, body: Op[T]) -> Op[T]:
        """Run an operation under all locks that a new assignment needs (V-19)."""
        return holding(self.bus.attributes, holding(self.lock, body))


def _parse_id(text: str, maximum: int) -> int:
    number = kstrtoul(text)
    if number > maximum:
        raise SysfsError(errno.ENODEV)
    return number


def _with(matrix: Matrix, kind: str, number: int) -> Matrix:
    """Return a matrix with one id more."""
    name = _FIELDS[kind]
    return replace(matrix, **{name: getattr(matrix, name) | 1 << number})


def _parse_config(text: str) -> Matrix:
    """Return three masks, separated by comma or newline; what follows the third is ignored (V-20)."""
    tokens = text[:_CONFIG_LENGTH].replace("\n", ",").split(",", 3)
    if len(tokens) < 3:
        raise SysfsError(errno.EINVAL)
    adapters, domains, control = (parse_absolute(token) for token in tokens[:3])
    return Matrix(adapters, domains, control)
