"""The hands at the machine: what an administrator at the HMC, at a shell or at libvirt does, as verbs.

Each verb changes something that no sysfs write of the agent can. A verb that the kernel may take its time over
returns a Task; ``done`` says whether it is finished. Wrong arguments raise ControlError.
"""

from __future__ import annotations

from typing import Any

from vfio_ap_sim.kernel import machine as config
from vfio_ap_sim.kernel import module
from vfio_ap_sim.kernel.devices import apqn_of
from vfio_ap_sim.kernel.errors import ControlError
from vfio_ap_sim.kernel.guests import Guest, new_guest
from vfio_ap_sim.kernel.hardware import Adapter, Answer, usual_functions
from vfio_ap_sim.kernel.kernel import Kernel
from vfio_ap_sim.kernel.mdev import Mdev
from vfio_ap_sim.kernel.mdevs import Mdevs
from vfio_ap_sim.kernel.sessions import close_device, open_device, reset_device
from vfio_ap_sim.kernel.tasks import Op, Task, at_once

_FIRST_PID = 2001


class Control:
    """Verbs on one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._pids = _FIRST_PID

    # -- the HMC: what the LPAR has. With ``scan`` the kernel is told and looks at once, else it finds out later

    def plug(
        self, adapter: int | str, type: str = "CEX8C", *, keys: str | None = None, scan: bool = True
    ) -> Task[None]:
        """Give the LPAR an adapter."""
        number = self._id(adapter)
        if number in self.kernel.hardware.adapters:
            raise ControlError(f"the LPAR has adapter {number} already")
        if number > self.kernel.hardware.max_adapter:
            raise ControlError(f"adapter {number} is above the maximum {self.kernel.hardware.max_adapter}")
        document = {"adapters": [{"id": number, "type": type, "keys": keys or {}}]}
        self.kernel.hardware.plug(config.machine_from(document).adapters[0])
        return self._changed(scan)

    def unplug(self, adapter: int | str, *, scan: bool = True) -> Task[None]:
        """Take an adapter from the LPAR."""
        del self.kernel.hardware.adapters[self._adapter(adapter).id]
        return self._changed(scan)

    def configure(self, adapter: int | str, *, scan: bool = True) -> Task[None]:
        """Configure an adapter on."""
        self._adapter(adapter).configured = True
        return self._changed(scan)

    def deconfigure(self, adapter: int | str, *, scan: bool = True) -> Task[None]:
        """Configure an adapter off; it stays in the LPAR."""
        self._adapter(adapter).configured = False
        return self._changed(scan)

    def checkstop(self, adapter: int | str, *, on: bool = True, scan: bool = True) -> Task[None]:
        """Stop an adapter as after a hardware error, or with ``on=False`` repair it. No uevent tells (U-11)."""
        self._adapter(adapter).checkstopped = on
        return self._changed(scan)

    def set_domains(
        self, usage: str | int | None = None, control: str | int | None = None, *, scan: bool = True
    ) -> Task[None]:
        """Set usage domains, control domains or both, as id lists such as ``4,6,0x10-0x1f``."""
        hardware = self.kernel.hardware
        new = [self._domains(text, old) for text, old in ((usage, hardware.usage), (control, hardware.control))]
        hardware.usage, hardware.control = new
        return self._changed(scan)

    def set_type(
        self, adapter: int | str, type: str, *, functions: int | None = None, scan: bool = True
    ) -> Task[None]:
        """Exchange an adapter for one of another type: the kernel makes new devices for it (K-13)."""
        card = self._adapter(adapter)
        checked = config.machine_from({"adapters": [{"id": card.id, "type": type}]}).adapters[0]
        card.type = checked.type
        card.functions = usual_functions(checked.type) if functions is None else functions
        return self._changed(scan)

    def set_key(self, adapter: int | str, key: str, *, domain: int | str | None = None) -> None:
        """Load master keys, by name, into one domain of an adapter or into all."""
        card = self._adapter(adapter)
        if domain is None:
            card.default_key = key
            card.key_names.clear()
        else:
            card.key_names[self._id(domain)] = key

    def reset_time(self, milliseconds: int) -> None:
        """Set how long every queue reset takes from now on."""
        if milliseconds < 0:
            raise ControlError("a reset cannot take less than 0 ms")
        self.kernel.hardware.reset_us = milliseconds * 1000

    def answer(
        self, adapter: int | str, domain: int | str, code: int | None, *, asynchronous: bool = False
    ) -> None:
        """Have a queue answer TAPQ with a response code from now on; with None as its state says again."""
        apqn = apqn_of(self._id(adapter), self._id(domain))
        self.kernel.hardware.answers.pop(apqn, None)
        if code is not None:
            if not 0 <= code <= 0xFF:
                raise ControlError("a response code is 0 to 0xff")
            self.kernel.hardware.answers[apqn] = Answer(code, asynchronous)

    # -- a shell on the host

    def load(self) -> Task[None]:
        """Load vfio_ap (modprobe)."""
        if self.kernel.mdevs is not None:
            raise ControlError("vfio_ap is loaded already")
        self.kernel.mdevs = self.kernel.make_driver()
        return self.kernel.clock.spawn(module.load(self.kernel.uevents, self.kernel.mdevs))

    def unload(self) -> Task[None]:
        """Unload vfio_ap (rmmod): all its mdevs go; refused while a guest has one (V-37)."""
        mdevs = self._loaded()
        users = module.users(mdevs)
        if users:
            raise ControlError(f"module vfio_ap is in use: a guest has {', '.join(users)}")

        def run() -> Op[None]:
            yield from module.unload(self.kernel.uevents, mdevs)
            self.kernel.mdevs = None

        return self.kernel.clock.spawn(run())

    def scan(self) -> Task[None]:
        """Scan the bus."""
        return self.kernel.clock.spawn(self.kernel.scanner.scan())

    # -- libvirt

    def start_guest(self, name: str, uuid: str | None = None, *, obeys: bool | None = None) -> Task[None]:
        """Start a guest, or give a running one a device: the mdev ``uuid``.

        The task fails with EPERM for a guest's second mdev and with EBUSY for an mdev that another guest has.
        """
        knob = self.kernel.machine.knobs.guest_obeys
        guest = self.kernel.guests.get(name)
        mdev = self._mdev(uuid) if uuid is not None else None
        if guest is None:
            guest = new_guest(name, self._pids, obeys=knob if obeys is None else obeys)
            self._pids += 1

        def run(guest: Guest) -> Op[None]:
            if mdev is not None:
                yield from open_device(self._loaded().driver, mdev, guest)
            self.kernel.guests[name] = guest

        return self.kernel.clock.spawn(run(guest), comm="qemu", pid=guest.pid)

    def stop_guest(self, name: str) -> Task[None]:
        """Stop a guest; its queues are reset before it is gone (V-29)."""
        guest = self._guest(name)
        mdev = self._mdev_of(guest)

        def run() -> Op[None]:
            if mdev is not None:
                yield from close_device(self._loaded().driver, mdev, guest)
            self.kernel.guests.pop(name, None)

        return self.kernel.clock.spawn(run(), comm="qemu", pid=guest.pid)

    def reset_guest(self, name: str) -> Task[None]:
        """Reboot a guest: its queues are reset (V-30)."""
        guest = self._guest(name)
        mdev = self._mdev_of(guest)
        if mdev is None:
            raise ControlError(f"guest {name!r} has no vfio-ap device")
        return self.kernel.clock.spawn(reset_device(self._loaded().driver, mdev), comm="qemu", pid=guest.pid)

    def obey(self, name: str, obeys: bool = True) -> None:
        """Set whether a guest gives its device back when the kernel asks for it (V-33)."""
        self._guest(name).obeys = obeys

    # -- looking

    def klog(self) -> list[str]:
        """Return the kernel log as dmesg shows it."""
        return [f"[{line.microseconds / 1e6:12.6f}] {line.text}" for line in self.kernel.log.history]

    def show(self) -> dict[str, Any]:
        """Return the state of the machine in short, for people and for JSON."""
        kernel = self.kernel
        mdevs = kernel.mdevs.by_uuid.values() if kernel.mdevs else ()
        return {
            "name": kernel.machine.name,
            "profile": kernel.profile.name,
            "seconds": kernel.seconds,
            "resetMs": kernel.hardware.reset_us // 1000,
            "vfioApLoaded": kernel.mdevs is not None,
            "usageDomains": config.render_id_list(kernel.hardware.usage),
            "controlDomains": config.render_id_list(kernel.hardware.control),
            "adapters": [
                self._show_adapter(kernel.hardware.adapters[n]) for n in sorted(kernel.hardware.adapters)
            ],
            "mdevs": [self._show_mdev(mdev) for mdev in mdevs],
            "guests": [self._show_guest(guest) for guest in kernel.guests.values()],
            "hazards": list(kernel.hazards),
        }

    def _show_adapter(self, adapter: Adapter) -> dict[str, Any]:
        card = self.kernel.bus.cards.get(adapter.id)
        drivers: dict[str, int] = {}
        for queue in card.domains.values() if card else ():
            name = queue.driver or "none"
            drivers[name] = drivers.get(name, 0) | 1 << queue.domain
        return {
            "id": adapter.id,
            "type": adapter.type,
            "configured": adapter.configured,
            "checkstopped": adapter.checkstopped,
            "domains": {name: config.render_id_list(mask) for name, mask in sorted(drivers.items())},
        }

    @staticmethod
    def _show_mdev(mdev: Mdev) -> dict[str, Any]:
        return {
            "uuid": mdev.uuid,
            "matrix": mdev.assigned.text().split(),
            "guestMatrix": mdev.shadow.text().split(),
            "guest": mdev.guest.name if mdev.guest else None,
            "leaving": mdev.leaving,
        }

    @staticmethod
    def _show_guest(guest: Guest) -> dict[str, Any]:
        return {
            "name": guest.name,
            "pid": guest.pid,
            "obeys": guest.obeys,
            "hasDevice": guest.has_device,
            "adapters": config.render_id_list(guest.adapters),
            "domains": config.render_id_list(guest.domains),
            "controlDomains": config.render_id_list(guest.control),
        }

    # -- arguments

    def _changed(self, scan: bool) -> Task[None]:
        return self.scan() if scan else self.kernel.clock.spawn(at_once(lambda: None))

    @staticmethod
    def _id(text: int | str) -> int:
        try:
            return config.parse_id(text)
        except ValueError as error:
            raise ControlError(str(error)) from None

    def _domains(self, text: str | int | None, old: int) -> int:
        if text is None:
            return old
        try:
            mask = config.parse_id_list(text)
        except ValueError as error:
            raise ControlError(str(error)) from None
        highest = mask.bit_length() - 1
        if highest > self.kernel.hardware.max_domain:
            raise ControlError(f"domain {highest} is above the maximum {self.kernel.hardware.max_domain}")
        return mask

    def _adapter(self, adapter: int | str) -> Adapter:
        number = self._id(adapter)
        found = self.kernel.hardware.adapters.get(number)
        if found is None:
            there = ", ".join(str(other) for other in sorted(self.kernel.hardware.adapters)) or "none"
            raise ControlError(f"the LPAR has no adapter {number}; it has {there}")
        return found

    def _loaded(self) -> Mdevs:
        if self.kernel.mdevs is None:
            raise ControlError("vfio_ap is not loaded")
        return self.kernel.mdevs

    def _mdev(self, uuid: str) -> Mdev:
        mdev = self._loaded().visible(uuid.lower())
        if mdev is None:
            raise ControlError(f"there is no mdev {uuid}")
        return mdev

    def _guest(self, name: str) -> Guest:
        guest = self.kernel.guests.get(name)
        if guest is None:
            raise ControlError(f"there is no guest {name!r}; running: {', '.join(self.kernel.guests) or 'none'}")
        return guest

    def _mdev_of(self, guest: Guest) -> Mdev | None:
        mdevs = self.kernel.mdevs.by_uuid.values() if self.kernel.mdevs else ()
        return next((mdev for mdev in mdevs if mdev.guest is guest), None)


def boot(machine: config.Machine | None = None, profile: str = "K7.1") -> Control:
    """Return the controls of a freshly booted machine, with vfio_ap loaded unless the machine says otherwise."""
    control = Control(Kernel(machine, profile))
    if control.kernel.machine.vfio_ap_loaded:
        control.load()
    return control
