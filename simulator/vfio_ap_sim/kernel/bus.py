"""The AP bus: which driver has which queue, and the masks and overrides that decide it (kernel-ap.md 2).

What drivers do when they get or lose a queue is theirs; scans are in ``scan.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Protocol

from vfio_ap_sim.kernel.bitmap import ALL, edit, has, ids_of, render
from vfio_ap_sim.kernel.devices import CARD_DRIVER, HOST_DRIVER, Card, Queue, announce
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.feeds import Uevents
from vfio_ap_sim.kernel.hardware import Qci
from vfio_ap_sim.kernel.profile import Profile
from vfio_ap_sim.kernel.tasks import Mutex, Op, Step, at_once, holding

_OVERRIDE_LIMIT = 4095


class QueueDriver(Protocol):
    """A driver of queues, as the bus sees it (``ap_bus.h:struct ap_driver``)."""

    name: str

    def probe(self, queue: Queue) -> Step:
        """Take a queue that was just bound."""

    def remove(self, queue: Queue) -> Step:
        """Give a queue up; it is still bound."""

    def check_in_use(self, adapters: int, domains: int) -> Op[bool]:
        """Whether any of adapters x domains is needed; the driver logs which."""

    def on_config_changed(self, new: Qci, old: Qci) -> Step:
        """A scan begins, with another configuration than the last."""

    def on_scan_complete(self) -> Step:
        """That scan is over."""


class HostDriver:
    """cex4queue."""

    name = HOST_DRIVER

    def __init__(self, works: Callable[[int, int], bool]) -> None:
        self._works = works
        self._probes = 0

    def probe(self, queue: Queue) -> None:
        """Start the queue's state machine; a queue comes to the host online, as the last of its card."""
        queue.active = queue.soft_online = True
        queue.begin_reset(self._works(queue.card.id, queue.domain))
        self._probes += 1
        queue.turn = self._probes

    def remove(self, queue: Queue) -> None:
        """Nothing to do."""

    def check_in_use(self, adapters: int, domains: int) -> Op[bool]:
        """The host driver needs nothing."""
        return at_once(lambda: False)

    def on_config_changed(self, new: Qci, old: Qci) -> None:
        """Nothing to do."""

    def on_scan_complete(self) -> None:
        """Nothing to do."""


def perform(step: Step) -> Op[None]:
    """Carry out what a store or driver callback returned."""
    if step is not None:
        yield from step


class Bus:
    """State of the bus: devices, masks, drivers."""

    def __init__(
        self,
        profile: Profile,
        uevents: Uevents,
        masks: tuple[int, int],
        works: Callable[[int, int], bool],
    ) -> None:
        self.profile = profile
        self.uevents = uevents
        self.apmask, self.aqmask = masks
        self.attributes = Mutex()
        """``ap_attr_mutex`` (K-11, V-19)."""
        self.cards: dict[int, Card] = {}
        self.queues: dict[int, Queue] = {}
        """By APQN, in the order in which they appeared, as the bus keeps them."""
        self.drivers: dict[str, QueueDriver] = {HOST_DRIVER: HostDriver(works)}
        """In the order of their registration, which is the order in which they are tried."""
        self.autoprobe = True
        self.scans = 0
        self.complete_count = 0
        self._armed = True
        self._masks_edited = False
        self._overrides = 0

    # -- who owns a queue

    def reserved(self, adapter: int, domain: int) -> bool:
        """Whether the masks keep an APQN for the host (K-1)."""
        return has(self.apmask, adapter) and has(self.aqmask, domain)

    def host_owns_any(self, adapters: int, domains: int) -> bool:
        """Whether any of adapters x domains may not be given to guests (3.3 step 4, K-17)."""
        for adapter in ids_of(adapters):
            owned = self.aqmask if has(self.apmask, adapter) else 0
            if self.profile.driver_override and self._overrides:
                owned = self._with_overrides(adapter, owned)
            if owned & domains:
                return True
        return False

    def _with_overrides(self, adapter: int, owned: int) -> int:
        card = self.cards.get(adapter)
        for queue in card.domains.values() if card else ():
            if queue.override and queue.driver:
                bit = 1 << queue.domain
                owned = owned | bit if queue.driver == HOST_DRIVER else owned & ~bit
        return owned

    def _accepts(self, driver: str, queue: Queue) -> bool:
        """Whether a driver may have a queue (``ap_bus.c:ap_device_probe``)."""
        if queue.override:
            return queue.override == driver
        return self.reserved(queue.card.id, queue.domain) == (driver == HOST_DRIVER)

    # -- binding

    def bind(self, driver: QueueDriver, queue: Queue) -> Op[None]:
        """Bind a driverless queue. Raises ENODEV when mask or override forbid it."""
        if not self._accepts(driver.name, queue):
            raise SysfsError(errno.ENODEV)
        queue.driver = driver.name
        self.rearm()
        yield from perform(driver.probe(queue))
        announce(self.uevents, "bind", queue)

    def attach(self, queue: Queue) -> Op[None]:
        """Bind a driverless queue to the first driver that accepts it, if any (``device_attach``)."""
        for driver in tuple(self.drivers.values()):
            if queue.driver is None and self._accepts(driver.name, queue):
                yield from self.bind(driver, queue)

    def release(self, queue: Queue) -> Op[None]:
        """Take a queue from its driver, if it has one."""
        if queue.driver is not None and not queue.leaving:
            queue.leaving = True
            yield from perform(self.drivers[queue.driver].remove(queue))
            queue.driver, queue.leaving = None, False
            queue.active = False
            announce(self.uevents, "unbind", queue)

    def bind_card(self, card: Card) -> None:
        """Bind a card to cex4card."""
        card.driver = CARD_DRIVER
        card.soft_online = True
        self.rearm()
        announce(self.uevents, "bind", card)

    def release_card(self, card: Card) -> None:
        """Take a card from cex4card."""
        if card.driver is not None:
            card.driver = None
            announce(self.uevents, "unbind", card)

    def register(self, driver: QueueDriver) -> Op[None]:
        """Add a driver and let it have every driverless queue it may (B-18)."""
        self.drivers[driver.name] = driver
        if self.autoprobe:
            for queue in tuple(self.queues.values()):
                if queue.driver is None and self._accepts(driver.name, queue):
                    yield from self.bind(driver, queue)
        self.uevents.send("add", f"/bus/ap/drivers/{driver.name}", "drivers")
        self.check_complete()

    def unregister(self, driver: QueueDriver) -> Op[None]:
        """Take a driver away; its queues stay without one."""
        for queue in tuple(self.queues.values()):
            if queue.driver == driver.name:
                yield from self.release(queue)
        del self.drivers[driver.name]
        self.uevents.send("remove", f"/bus/ap/drivers/{driver.name}", "drivers")

    # -- masks

    def write_apmask(self, text: str) -> Op[None]:
        """Store to ``apmask`` (2.3)."""
        return self._write_mask("APMASK", text)

    def write_aqmask(self, text: str) -> Op[None]:
        """Store to ``aqmask`` (2.3)."""
        return self._write_mask("AQMASK", text)

    def _write_mask(self, variable: str, text: str) -> Op[None]:
        changed = yield from holding(self.attributes, self._commit(variable == "APMASK", text), interruptible=True)
        if changed:
            yield from self._revise_bindings()
            mask = self.apmask if variable == "APMASK" else self.aqmask
            self.uevents.send("change", "/devices/ap", "ap", {variable: render(mask) + "\n"})

    def _commit(self, adapters: bool, text: str) -> Op[bool]:
        """Check and take over a new mask; whether it differs. Raises EINVAL or EBUSY with the mask unchanged."""
        if self._overrides:
            raise SysfsError(errno.EINVAL)
        old, other = (self.apmask, self.aqmask) if adapters else (self.aqmask, self.apmask)
        new = edit(old, text)
        if new == old:
            return False
        scope = ALL if self.profile.wide_in_use_check else other
        added = new & ~old
        if added:
            for driver in tuple(self.drivers.values()):
                pair = (added, scope) if adapters else (scope, added)
                if (yield from driver.check_in_use(*pair)):
                    raise SysfsError(errno.EBUSY)
        if adapters:
            self.apmask = new
        else:
            self.aqmask = new
        self._masks_edited = (self.apmask, self.aqmask) != (ALL, ALL)
        return True

    def _revise_bindings(self) -> Op[None]:
        """Reprobe every queue that no longer fits its driver (``ap_bus.c:__ap_revise_reserved``)."""
        for queue in tuple(self.queues.values()):
            if queue.override == queue.driver is not None:
                continue
            with_host = queue.driver == HOST_DRIVER
            if queue.driver is None:
                with_host = self.profile.driverless_counts_as_host
            if self.reserved(queue.card.id, queue.domain) != with_host or queue.override:
                yield from self.release(queue)
                yield from self.attach(queue)

    def write_override(self, queue: Queue, text: str) -> Op[None]:
        """Store to a queue's ``driver_override`` (K-14 to K-16)."""

        def store() -> None:
            if self._masks_edited or len(text) >= _OVERRIDE_LIMIT:
                raise SysfsError(errno.EINVAL)
            name = text.partition("\n")[0] or None
            self._overrides += (name is not None) - (queue.override is not None)
            queue.override = name

        yield from holding(self.attributes, at_once(store), interruptible=True)

    # -- by hand

    def write_bind(self, driver: str, text: str) -> Op[None]:
        """Store to ``drivers/<driver>/bind`` (B-16)."""
        device = self._named(text)
        if device is None or isinstance(device, Card) != (driver == CARD_DRIVER):
            raise SysfsError(errno.ENODEV)
        if device.driver is not None:
            raise SysfsError(errno.EBUSY)
        if isinstance(device, Card):
            self.bind_card(device)
        else:
            yield from self.bind(self.drivers[driver], device)

    def write_unbind(self, driver: str, text: str) -> Op[None]:
        """Store to ``drivers/<driver>/unbind`` (B-16)."""
        device = self._named(text)
        if device is None or device.driver != driver:
            raise SysfsError(errno.ENODEV)
        if isinstance(device, Card):
            self.release_card(device)
        else:
            yield from self.release(device)

    def write_drivers_probe(self, text: str) -> Op[None]:
        """Store to ``drivers_probe``: success even when no driver takes the device (B-14)."""
        device = self._named(text)
        if device is None:
            raise SysfsError(errno.ENODEV)
        if isinstance(device, Queue):
            yield from self.attach(device)
        elif device.driver is None:
            self.bind_card(device)

    def _named(self, text: str) -> Card | Queue | None:
        return self.device(text.removesuffix("\n"))

    def device(self, name: str) -> Card | Queue | None:
        """Return the device of this name, e.g. ``card05`` or ``05.00ab``."""
        return next((found for found in self._candidates(name) if found.name == name), None)

    def _candidates(self, name: str) -> Iterator[Card | Queue]:
        adapter, _, domain = name.removeprefix("card").partition(".")
        try:
            card = self.cards.get(int(adapter, 16))
            queue = card.domains.get(int(domain, 16)) if card and domain else None
        except ValueError:
            return
        yield from (device for device in (card, queue) if device is not None)

    # -- completeness of bindings (U-10, B-11, B-12)

    def bindings(self) -> tuple[int, int]:
        """Return how many queues have a driver, and how many there are."""
        return sum(queue.driver is not None for queue in self.queues.values()), len(self.queues)

    def rearm(self) -> None:
        """Let completeness be announced once more."""
        self._armed = True

    def check_complete(self) -> None:
        """Announce, once per arming, that every queue has a driver."""
        bound, total = self.bindings()
        if self._armed and self.scans and bound == total:
            self._armed = False
            self.complete_count += 1
            count = str(self.complete_count)
            self.uevents.send("change", "/devices/ap", "ap", {"BINDINGS": "complete", "COMPLETECOUNT": count})
