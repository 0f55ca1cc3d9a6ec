"""Bus scans: how the bus follows the hardware (K-12, K-13, ``ap_bus.c:ap_scan_bus``)."""

from __future__ import annotations

from vfio_ap_sim.kernel.bitmap import has, ids_of
from vfio_ap_sim.kernel.bus import Bus, perform
from vfio_ap_sim.kernel.devices import Card, Queue, announce, apqn_of
from vfio_ap_sim.kernel.hardware import BIND_STATE, Adapter, Hardware, Qci
from vfio_ap_sim.kernel.tasks import Op, Wait


class Scanner:
    """Carries out scans, one at a time, and keeps the configuration that the last one found."""

    def __init__(self, bus: Bus, hardware: Hardware) -> None:
        self.bus = bus
        self.hardware = hardware
        self.info = Qci(0, 0, 0)
        """The kernel's copy of QCI: what ap_adapter_mask and its kin show (B-4)."""
        self.domain = -1
        """``ap_domain``: the host's default domain (B-1)."""
        self._running: list[Wait] | None = None

    def scan(self) -> Op[None]:
        """Scan, or wait for the end of a scan that runs (B-10)."""
        if self._running is not None:
            end = Wait()
            self._running.append(end)
            yield end
            return
        self._running = []
        yield from self._scan()
        waiting, self._running = self._running, None
        for end in waiting:
            end.fire()

    def _scan(self) -> Op[None]:
        bus, old, new = self.bus, self.info, self.hardware.qci()
        self.info = new
        drivers = tuple(bus.drivers.values()) if new != old else ()
        for driver in drivers:
            yield from perform(driver.on_config_changed(new, old))
        if new.adapters & ~old.adapters or new.usage & ~old.usage:
            bus.rearm()
        if self.domain < 0:
            self.domain = next(ids_of(new.usage & bus.aqmask), -1)
        for number in sorted(bus.cards.keys() | self.hardware.adapters.keys()):
            yield from self._scan_adapter(number)
        for driver in drivers:
            yield from perform(driver.on_scan_complete())
        bus.scans += 1
        if bus.scans == 1:
            bus.uevents.send("change", "/devices/ap", "ap", {"INITSCAN": "done"})
        bus.check_complete()

    def _scan_adapter(self, number: int) -> Op[None]:
        adapter, card = self.hardware.adapters.get(number), self.bus.cards.get(number)
        usable = adapter is not None and self.info.usage != 0
        if card is not None and (adapter is None or not usable or _replaced(card, adapter)):
            yield from self._remove_card(card)
            card = None
        if adapter is None or not usable:
            return
        if card is None:
            card = self._add_card(adapter)
        elif card.config != adapter.configured:
            card.config = adapter.configured
            announce(self.bus.uevents, "change", card, CONFIG=str(int(card.config)))
        card.chkstop = adapter.checkstopped
        for domain in sorted(set(card.domains) | set(ids_of(self.info.usage))):
            yield from self._scan_domain(card, adapter, domain)

    def _scan_domain(self, card: Card, adapter: Adapter, domain: int) -> Op[None]:
        queue = card.domains.get(domain)
        if not has(self.info.usage, domain):
            if queue is not None:
                yield from self._remove_queue(queue)
        elif queue is None:
            yield from self._add_queue(card, adapter, domain)
        elif queue.chkstop != adapter.checkstopped:
            queue.chkstop = adapter.checkstopped  # no uevent: U-11
            self._restart(queue, not queue.chkstop)
        elif queue.config != adapter.configured:
            queue.config = adapter.configured
            announce(self.bus.uevents, "change", queue, CONFIG=str(int(queue.config)))
            self._restart(queue, queue.config)
        elif queue.chkstop:
            self._restart(queue, True)  # in vain: every scan but the first tries to bring a failed queue back

    def _restart(self, queue: Queue, again: bool) -> None:
        """Reset a queue of the host that works again; one change of state a scan is all that is looked at."""
        if again and queue.active:
            queue.begin_reset(self.hardware.works(queue.card.id, queue.domain))

    def _add_card(self, adapter: Adapter) -> Card:
        card = Card(
            id=adapter.id,
            type=adapter.type,
            mode=adapter.mode,
            hwtype=adapter.hwtype,
            functions=adapter.functions & ~BIND_STATE,
            depth=adapter.depth,
            serial=adapter.serial,
            config=adapter.configured,
            chkstop=adapter.checkstopped,
        )
        self.bus.cards[card.id] = card
        announce(self.bus.uevents, "add", card)
        if self.bus.autoprobe:
            self.bus.bind_card(card)
        return card

    def _add_queue(self, card: Card, adapter: Adapter, domain: int) -> Op[None]:
        queue = Queue(card, domain, config=adapter.configured, chkstop=adapter.checkstopped)
        queue.active = queue.config and not queue.chkstop
        queue.resetting = not queue.active
        card.domains[domain] = queue
        self.bus.queues[apqn_of(card.id, domain)] = queue
        announce(self.bus.uevents, "add", queue)
        if self.bus.autoprobe:
            yield from self.bus.attach(queue)

    def _remove_queue(self, queue: Queue) -> Op[None]:
        yield from self.bus.release(queue)
        del queue.card.domains[queue.domain]
        del self.bus.queues[queue.apqn]
        announce(self.bus.uevents, "remove", queue)

    def _remove_card(self, card: Card) -> Op[None]:
        for queue in tuple(card.domains.values()):
            yield from self._remove_queue(queue)
        self.bus.release_card(card)
        del self.bus.cards[card.id]
        announce(self.bus.uevents, "remove", card)


def _replaced(card: Card, adapter: Adapter) -> bool:
    """Whether another type or facility word makes it another card (K-13)."""
    return (card.type, card.functions) != (adapter.type, adapter.functions & ~BIND_STATE)
