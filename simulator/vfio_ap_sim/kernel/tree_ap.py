"""/sys/bus/ap, /sys/devices/ap and /sys/module/ap as nodes (kernel-ap.md 1.2 to 1.4)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from vfio_ap_sim.kernel import bitmap, keys
from vfio_ap_sim.kernel.bitmap import render
from vfio_ap_sim.kernel.bus import Bus
from vfio_ap_sim.kernel.devices import CARD_DRIVER, HOST_DRIVER, VFIO_DRIVER, Card, Queue, announce
from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.hardware import Hardware
from vfio_ap_sim.kernel.nodes import Directory, File, Link, Node, folder, merged
from vfio_ap_sim.kernel.scan import Scanner
from vfio_ap_sim.kernel.vfio_ap import VfioAp

ACTIONS = ("add", "remove", "change", "move", "online", "offline", "bind", "unbind")
_FEATURES = "APSC APXA\n"
_LONGEST_POLL_NS = 120_000_000_000
_MODULE_OF = {CARD_DRIVER: "zcrypt_cex4", HOST_DRIVER: "zcrypt_cex4", VFIO_DRIVER: "vfio_ap"}
_OP_MODES = "FIPS2009 BSI2009 FIPS2011 BSI2011 BSICC2017\n"
_EP11_API, _EP11_FIRMWARE = "6\n", "8.34\n"
_MESSAGE_SIZE = 12288
_RESETS = {False: "No Reset Timer set.\n", True: "Reset in progress.\n"}


@dataclass(slots=True)
class Settings:
    """Knobs of the bus that change nothing else in the model."""

    poll_thread: bool = False
    poll_timeout: int = 250_000


@dataclass(frozen=True, slots=True)
class ApTree:
    """Makes the nodes of the bus, its cards and its queues."""

    bus: Bus
    scanner: Scanner
    hardware: Hardware
    driver: Callable[[], VfioAp | None]
    settings: Settings
    config_time: Callable[[], int]
    set_config_time: Callable[[int], None]
    boot: tuple[str | None, str | None]
    """The ap.apmask= and ap.aqmask= of the kernel command line."""

    # -- /sys/bus/ap

    def bus_directory(self) -> Directory:
        """Return /sys/bus/ap."""
        bus, scanner, profile = self.bus, self.scanner, self.bus.profile
        children: dict[str, Node] = {
            "ap_adapter_mask": File(lambda: render(scanner.info.adapters) + "\n"),
            "ap_control_domain_mask": File(lambda: render(scanner.info.control) + "\n"),
            "ap_usage_domain_mask": File(lambda: render(scanner.info.usage) + "\n"),
            "ap_domain": File(lambda: f"{scanner.domain}\n", self._store_domain),
            "ap_interrupts": File(lambda: "1\n"),
            "ap_max_adapter_id": File(lambda: f"{self.hardware.max_adapter}\n"),
            "ap_max_domain_id": File(lambda: f"{self.hardware.max_domain}\n"),
            "apmask": File(lambda: render(bus.apmask) + "\n", bus.write_apmask, bus.attributes),
            "aqmask": File(lambda: render(bus.aqmask) + "\n", bus.write_aqmask, bus.attributes),
            "bindings": File(self._show_bindings),
            "config_time": File(lambda: f"{self.config_time()}\n", self._store_config_time),
            "devices": Directory(self._device_names, self._device_link),
            "drivers": Directory(lambda: (CARD_DRIVER, *bus.drivers), self._driver),
            "drivers_autoprobe": File(lambda: f"{int(bus.autoprobe)}\n", self._store_autoprobe),
            "drivers_probe": File(store=bus.write_drivers_probe),
            "poll_thread": File(lambda: f"{int(self.settings.poll_thread)}\n", self._store_poll_thread),
            "poll_timeout": File(lambda: f"{self.settings.poll_timeout}\n", self._store_poll_timeout),
            "scans": File(lambda: f"{bus.scans}\n", lambda text: scanner.scan()),
            "uevent": File(store=lambda text: self._synthesize(text, "/bus/ap", "bus")),
        }
        if profile.bus_features:
            children["features"] = File(lambda: _FEATURES)
        if profile.complete_count:
            children["bindings_complete_count"] = File(lambda: f"{bus.complete_count}\n")
        return folder(children)

    def _show_bindings(self) -> str:
        bound, total = self.bus.bindings()
        complete = " (complete)" if self.bus.scans and bound == total else ""
        return f"{bound}/{total}{complete}\n"

    def _store_domain(self, text: str) -> None:
        number = bitmap.scan_integer(text)
        if not 0 <= number <= self.hardware.max_domain or not bitmap.has(self.bus.aqmask, number):
            raise SysfsError(errno.EINVAL)
        self.scanner.domain = number

    def _store_config_time(self, text: str) -> None:
        seconds = bitmap.scan_decimal(text)
        if not 5 <= seconds <= 120:
            raise SysfsError(errno.EINVAL)
        self.set_config_time(seconds)

    def _store_autoprobe(self, text: str) -> None:
        self.bus.autoprobe = not text.startswith("0")

    def _store_poll_thread(self, text: str) -> None:
        self.settings.poll_thread = bitmap.kstrtobool(text)

    def _store_poll_timeout(self, text: str) -> None:
        nanoseconds = bitmap.scan_decimal(text)
        if not 0 <= nanoseconds <= _LONGEST_POLL_NS:
            raise SysfsError(errno.EINVAL)
        self.settings.poll_timeout = nanoseconds

    def _synthesize(self, text: str, path: str, subsystem: str) -> None:
        self.bus.uevents.send(action_of(text), path, subsystem, {"SYNTH_UUID": "0"})

    def _device_names(self) -> list[str]:
        return [card.name for card in self.bus.cards.values()] + [q.name for q in self.bus.queues.values()]

    def _device_link(self, name: str) -> Link | None:
        device = self.bus.device(name)
        return Link(f"../../..{device.path}") if device else None

    # -- /sys/bus/ap/drivers

    def _driver(self, name: str) -> Directory | None:
        if name != CARD_DRIVER and name not in self.bus.drivers:
            return None
        fixed: dict[str, Node] = {
            "bind": File(store=lambda text: self.bus.write_bind(name, text)),
            "unbind": File(store=lambda text: self.bus.write_unbind(name, text)),
            "uevent": File(store=lambda text: self._synthesize(text, f"/bus/ap/drivers/{name}", "drivers")),
            "module": Link(f"../../../../module/{_MODULE_OF[name]}"),
        }

        def bound() -> list[str]:
            devices: list[Card | Queue] = [*(self.bus.cards if name == CARD_DRIVER else self.bus.queues).values()]
            return [device.name for device in devices if _driver_link(device) == name]

        def link(device_name: str) -> Link | None:
            device = self.bus.device(device_name)
            return Link(f"../../../..{device.path}") if device and _driver_link(device) == name else None

        return merged(fixed, bound, link)

    # -- /sys/devices/ap

    def devices_directory(self) -> Directory:
        """Return /sys/devices/ap."""
        cards = self.bus.cards

        def card(name: str) -> Directory | None:
            found = self.bus.device(name)
            return self._card(found) if isinstance(found, Card) else None

        uevent = File(lambda: "", lambda text: self._synthesize(text, "/devices/ap", "ap"))
        return merged({"uevent": uevent}, lambda: [found.name for found in cards.values()], card)

    def _card(self, card: Card) -> Directory:
        def names() -> list[str]:
            return [*self._card_attributes(card), *(queue.name for queue in card.domains.values())]

        def child(name: str) -> Node | None:
            found = self.bus.device(name) if "." in name else None
            if isinstance(found, Queue) and found.card is card:
                return self._queue(found)
            return self._card_attributes(card).get(name)

        return Directory(names, child, card)

    def _card_attributes(self, card: Card) -> dict[str, Node]:
        children: dict[str, Node] = {
            "ap_functions": File(lambda: f"0x{card.functions:08X}\n"),
            "chkstop": File(lambda: f"{int(card.chkstop)}\n"),
            "config": File(lambda: f"{int(card.config)}\n", lambda text: self._store_config(card, text)),
            "depth": File(lambda: f"{card.depth}\n"),
            "hwtype": File(lambda: f"{card.hwtype}\n"),
            "max_msg_size": File(lambda: f"{_MESSAGE_SIZE}\n"),
            "modalias": File(lambda: f"ap:t{card.hwtype:02X}\n"),
            "pendingq_count": File(lambda: "0\n"),
            "raw_hwtype": File(lambda: f"{card.hwtype}\n"),
            "request_count": File(lambda: "0\n", lambda text: None),
            "requestq_count": File(lambda: "0\n"),
            "subsystem": Link("../../../bus/ap"),
            "uevent": self._uevent(card),
        }
        if card.driver:
            children |= {
                "driver": Link(f"../../../bus/ap/drivers/{card.driver}"),
                "load": File(lambda: "0\n"),
                "online": File(lambda: f"{int(card.online)}\n", lambda text: self._store_card_online(card, text)),
                "type": File(lambda: f"{card.type}\n"),
            }
            if card.mode != "accel":
                children["serialnr"] = File(lambda: self._asked(card, card.serial + "\n"))
            if card.mode == "ep11":
                children["API_ordinalnr"] = File(lambda: self._asked(card, _EP11_API))
                children["FW_version"] = File(lambda: self._asked(card, _EP11_FIRMWARE))
                children["op_modes"] = File(lambda: self._asked(card, _OP_MODES))
        return children

    def _asked(self, card: Card, answer: str) -> str:
        """Return what the card answers to a request; an empty line when no host queue can carry it (C-16)."""
        return answer if any(self._host_can_ask(queue) for queue in card.domains.values()) else "\n"

    def _host_can_ask(self, queue: Queue) -> bool:
        ready = queue.driver == HOST_DRIVER and queue.online and queue.card.online
        return ready and self.hardware.works(queue.card.id, queue.domain)

    def _store_config(self, card: Card, text: str) -> None:
        """Have the adapter (de)configured; its queues follow with the next scan (C-8)."""
        wanted = bool(_zero_or_one(text))
        adapter = self.hardware.adapters.get(card.id)
        if adapter is None:
            raise SysfsError(errno.EIO)
        adapter.configured = card.config = wanted
        announce(self.bus.uevents, "change", card, CONFIG=str(int(wanted)))

    def _store_card_online(self, card: Card, text: str) -> None:
        """Set a card and all its host queues online or offline (C-12)."""
        wanted = bool(_zero_or_one(text))
        if wanted and not (card.config and not card.chkstop):
            raise SysfsError(errno.ENODEV)
        card.soft_online = wanted
        announce(self.bus.uevents, "change", card, ONLINE=str(int(wanted)))
        for queue in sorted(card.domains.values(), key=lambda queue: queue.turn):
            if queue.driver == HOST_DRIVER and queue.soft_online != wanted:
                queue.soft_online = wanted
                announce(self.bus.uevents, "change", queue, ONLINE=str(int(wanted)))

    # -- queues

    def _queue(self, queue: Queue) -> Directory:
        children: dict[str, Node] = {
            "chkstop": File(lambda: f"{int(queue.chkstop)}\n"),
            "config": File(lambda: f"{int(queue.config)}\n"),
            "interrupt": File(lambda: f"Interrupts {'en' if self._interrupts(queue) else 'dis'}abled.\n"),
            "pendingq_count": File(lambda: "0\n"),
            "request_count": File(lambda: "0\n" if queue.active else "-\n", lambda text: None),
            "requestq_count": File(lambda: "0\n"),
            "reset": File(lambda: _RESETS[queue.resetting], lambda text: self._store_reset(queue)),
            "subsystem": Link("../../../../bus/ap"),
            "uevent": self._uevent(queue),
        }
        profile = self.bus.profile
        if profile.queue_functions:
            children["ap_functions"] = File(lambda: self._show_functions(queue))
        if profile.driver_override:
            children["driver_override"] = File(
                lambda: f"{queue.override or ''}\n", lambda text: self.bus.write_override(queue, text)
            )
        driver = _driver_link(queue)
        if driver is not None:
            children["driver"] = Link(f"../../../../bus/ap/drivers/{driver}")
        if driver == HOST_DRIVER:
            children["load"] = File(lambda: "0\n")
            children["online"] = File(
                lambda: f"{int(queue.online)}\n", lambda text: self._store_queue_online(queue, text)
            )
            if queue.card.mode != "accel":
                children["mkvps"] = File(lambda: self._show_mkvps(queue))
            if queue.card.mode == "ep11":
                children["op_modes"] = File(lambda: _OP_MODES if self._host_can_ask(queue) else "\n")
        vfio_ap = self.driver()
        if driver == VFIO_DRIVER and vfio_ap is not None:
            children["status"] = File(lambda: vfio_ap.status(queue), lock=vfio_ap.lock)
        return folder(children, queue)

    def _interrupts(self, queue: Queue) -> bool:
        """Whether TAPQ finds interrupts enabled: the state machine enables them, a dead queue has none."""
        return queue.active and self.hardware.works(queue.card.id, queue.domain)

    def _show_functions(self, queue: Queue) -> str:
        adapter = self.hardware.adapters.get(queue.card.id)
        if adapter is None:
            raise SysfsError(errno.EIO)
        return f"0x{adapter.functions:08X}\n"

    def _show_mkvps(self, queue: Queue) -> str:
        mode = queue.card.mode
        if not self._host_can_ask(queue):
            return keys.unknown_mkvps(mode)
        return keys.mkvps(mode, self.hardware.adapters[queue.card.id].key_name(queue.domain))

    def _store_reset(self, queue: Queue) -> None:
        """Flush the queue, and reset it if the host's state machine runs (Q-3)."""
        queue.begin_reset(self.hardware.works(queue.card.id, queue.domain))
        queue.resets += not queue.resetting

    def _store_queue_online(self, queue: Queue, text: str) -> None:
        wanted = bool(_zero_or_one(text))
        card = queue.card
        if wanted and not (queue.config and card.config and not queue.chkstop and not card.chkstop):
            raise SysfsError(errno.ENODEV)
        if wanted and not card.soft_online:
            raise SysfsError(errno.EINVAL)
        queue.soft_online = wanted
        announce(self.bus.uevents, "change", queue, ONLINE=str(int(wanted)))

    def _uevent(self, device: Card | Queue) -> File:
        def synthesize(text: str) -> None:
            announce(self.bus.uevents, action_of(text), device, SYNTH_UUID="0")

        return File(lambda: "".join(f"{k}={v}\n" for k, v in device.variables().items()), synthesize)

    # -- /sys/module/ap

    def parameters(self) -> Directory:
        """Return /sys/module/ap/parameters (B-17)."""
        mode = 0o440 if self.bus.profile.private_parameters else 0o444
        shows: dict[str, Callable[[], str]] = {
            "apmask": lambda: f"{self.boot[0] or '(null)'}\n",
            "aqmask": lambda: f"{self.boot[1] or '(null)'}\n",
            "domain": lambda: f"{self.scanner.domain}\n",
            "poll_thread": lambda: "0\n",
            "useirq": lambda: "1\n",
        }
        return folder({name: File(show, restricted=mode) for name, show in shows.items()})


def _driver_link(device: Card | Queue) -> str | None:
    """Return the driver that the ``driver`` link shows."""
    return None if isinstance(device, Queue) and device.leaving else device.driver


def _zero_or_one(text: str) -> int:
    number = bitmap.scan_decimal(text)
    if number not in (0, 1):
        raise SysfsError(errno.EINVAL)
    return number


def action_of(text: str) -> str:
    """Return the action of a write to ``uevent``. Raises EINVAL."""
    action = text.split(maxsplit=1)[0] if text.strip() else ""
    if action not in ACTIONS:
        raise SysfsError(errno.EINVAL)
    return action
