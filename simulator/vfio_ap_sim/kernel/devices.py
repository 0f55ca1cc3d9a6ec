"""Cards and queues as devices of the AP bus: their state, names and uevents. No attribute texts here."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfio_ap_sim.kernel.feeds import Uevents

CARD_DRIVER = "cex4card"
HOST_DRIVER = "cex4queue"
VFIO_DRIVER = "vfio_ap"


def apqn_of(adapter: int, domain: int) -> int:
    """Return adapter << 8 | domain (S-1, ``ap.h:AP_MKQID``)."""
    return adapter << 8 | domain


def queue_name(apqn: int) -> str:
    """Return e.g. ``05.00ab``."""
    return f"{apqn >> 8:02x}.{apqn & 255:04x}"


@dataclass(slots=True)
class Card:
    """One card device, as the last bus scan saw its adapter."""

    id: int
    type: str
    mode: str
    hwtype: int
    functions: int
    depth: int
    serial: str
    config: bool
    chkstop: bool
    driver: str | None = None
    soft_online: bool = True
    domains: dict[int, Queue] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Device name (S-1)."""
        return f"card{self.id:02x}"

    @property
    def path(self) -> str:
        """DEVPATH."""
        return f"/devices/ap/{self.name}"

    @property
    def online(self) -> bool:
        """What ``online`` shows (C-12)."""
        return self.soft_online and self.config and not self.chkstop

    def variables(self, *, unbinding: bool = False) -> dict[str, str]:
        """Return the card's own uevent variables (U-1); the event of an unbind lacks MODALIAS."""
        own = {"DEVTYPE": "ap_card"}
        if self.driver:
            own["DRIVER"] = self.driver
        own["DEV_TYPE"] = f"{self.hwtype:04X}"
        if not unbinding:
            own["MODALIAS"] = f"ap:t{self.hwtype:02X}"
        own["MODE"] = self.mode
        return own


@dataclass(slots=True)
class Queue:
    """One queue device."""

    card: Card
    domain: int
    config: bool
    chkstop: bool
    driver: str | None = None
    leaving: bool = False
    """Whether its driver is giving it up: link and driver's attributes are gone, the driver's work is not done."""
    override: str | None = None
    soft_online: bool = True
    turn: int = 0
    """Place among the card's queues of the host driver: the last bound is the last (``zcrypt_queue_register``)."""
    active: bool = True
    """Whether the host's state machine runs; from its first unbind until the host driver has it again it does
    not (Q-3)."""
    resetting: bool = False
    """Whether the state machine waits for a reset that never comes: none runs, or the queue does not answer."""
    resets: int = 0
    """How often the queue was reset, and so zeroized, by vfio_ap or a writer of ``reset``."""

    @property
    def apqn(self) -> int:
        """Adapter and domain in one number."""
        return apqn_of(self.card.id, self.domain)

    @property
    def name(self) -> str:
        """Device name (S-1)."""
        return queue_name(self.apqn)

    @property
    def path(self) -> str:
        """DEVPATH."""
        return f"{self.card.path}/{self.name}"

    @property
    def online(self) -> bool:
        """What ``online`` shows."""
        return self.soft_online and self.config and not self.chkstop

    def begin_reset(self, works: bool) -> None:
        """Have the host's state machine reset the queue (``ap_queue.c:ap_sm_reset``)."""
        self.resetting = not (self.active and self.config and not self.chkstop and works)

    def variables(self, *, unbinding: bool = False) -> dict[str, str]:
        """Return the queue's own uevent variables (U-2)."""
        own = {"DEVTYPE": "ap_queue"}
        if self.driver:
            own["DRIVER"] = self.driver
        own["MODE"] = self.card.mode
        return own


def announce(uevents: Uevents, action: str, device: Card | Queue, **extra: str) -> None:
    """Send a uevent of a card or queue."""
    uevents.send(action, device.path, "ap", extra, device.variables(unbinding=action == "unbind"))
