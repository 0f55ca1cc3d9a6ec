"""Uevents: which, in which order, with which variables; as captured on a real 7.2 (``udevadm monitor -k -p``)."""

from __future__ import annotations

import pytest

from vfio_ap_sim.kernel import boot

from .conftest import BUS, A, Lpar


def told(lpar: Lpar) -> list[str]:
    """Uevents since the mark, one line each, without the sequence number."""
    lines = []
    for event in lpar.kernel.uevents.history:
        variables = dict(event.variables)
        assert variables.pop("SEQNUM").isdigit()
        head = [variables.pop(name) for name in ("ACTION", "DEVPATH", "SUBSYSTEM")]
        lines.append(" ".join([*head, *(f"{name}={value}".strip() for name, value in variables.items())]))
    lpar.mark()
    return lines


def queue(action: str, domain: str, *variables: str) -> str:
    return " ".join([action, f"/devices/ap/card05/05.{domain}", "ap", *variables])


CARD = "/devices/ap/card05 ap"


def test_a_mask_write(lpar: Lpar) -> None:
    lpar.apmask("-5")
    expected = []
    for domain in ("0004", "0006", "00ab"):
        expected.append(queue("unbind", domain, "DEVTYPE=ap_queue", "MODE=cca"))
        expected.append(queue("bind", domain, "DEVTYPE=ap_queue", "DRIVER=vfio_ap", "MODE=cca"))
    assert told(lpar) == [*expected, "change /devices/ap ap APMASK=0xfb" + "f" * 62]


def test_an_mdev_comes_and_goes(lpar: Lpar) -> None:
    path = f"/devices/vfio_ap/matrix/{A}"
    lpar.create(A)
    assert told(lpar) == [
        f"add {path} mdev",
        "add /devices/virtual/vfio/0 vfio MAJOR=251 MINOR=0 DEVNAME=vfio/0",
        f"add {path}/vfio-dev/vfio0 vfio-dev",
        f"bind {path} mdev DRIVER=vfio_ap_mdev",
    ]
    lpar.write(f"{BUS}/../mdev/devices/{A}/remove", "1")
    assert told(lpar) == [
        f"remove {path}/vfio-dev/vfio0 vfio-dev",
        "remove /devices/virtual/vfio/0 vfio MAJOR=251 MINOR=0 DEVNAME=vfio/0",
        f"unbind {path} mdev",
        f"remove {path} mdev",
    ]


def test_an_adapter_goes_and_comes(lpar: Lpar) -> None:
    lpar.apmask("-5")
    lpar.control.set_domains("4")
    lpar.mark()
    lpar.control.unplug(5)
    assert told(lpar) == [
        queue("unbind", "0004", "DEVTYPE=ap_queue", "MODE=cca"),
        queue("remove", "0004", "DEVTYPE=ap_queue", "MODE=cca"),
        f"unbind {CARD} DEVTYPE=ap_card DEV_TYPE=000E MODE=cca",
        f"remove {CARD} DEVTYPE=ap_card DEV_TYPE=000E MODALIAS=ap:t0E MODE=cca",
    ]
    lpar.control.plug(5)
    assert told(lpar) == [
        f"add {CARD} DEVTYPE=ap_card DEV_TYPE=000E MODALIAS=ap:t0E MODE=cca",
        f"bind {CARD} DEVTYPE=ap_card DRIVER=cex4card DEV_TYPE=000E MODALIAS=ap:t0E MODE=cca",
        queue("add", "0004", "DEVTYPE=ap_queue", "MODE=cca"),
        queue("bind", "0004", "DEVTYPE=ap_queue", "DRIVER=vfio_ap", "MODE=cca"),
        "change /devices/ap ap BINDINGS=complete COMPLETECOUNT=3",
    ]


def test_config(lpar: Lpar) -> None:
    lpar.control.set_domains("4")
    lpar.mark()
    lpar.write(f"{BUS}/devices/card05/config", "0")
    lpar.scan()
    assert told(lpar) == [
        f"change {CARD} CONFIG=0 DEVTYPE=ap_card DRIVER=cex4card DEV_TYPE=000E MODALIAS=ap:t0E MODE=cca",
        queue("change", "0004", "CONFIG=0", "DEVTYPE=ap_queue", "DRIVER=cex4queue", "MODE=cca"),
    ]


def test_the_module_goes_and_comes(lpar: Lpar) -> None:
    lpar.control.unload()
    assert told(lpar) == [
        "change /devices/vfio_ap/matrix matrix MDEV_STATE=unregistered DRIVER=vfio_ap",
        "remove /bus/mdev/drivers/vfio_ap_mdev drivers",
        "remove /bus/ap/drivers/vfio_ap drivers",
        "unbind /devices/vfio_ap/matrix matrix",
        "remove /bus/matrix/drivers/vfio_ap drivers",
        "remove /devices/vfio_ap/matrix matrix",
        "remove /bus/matrix bus",
        "remove /module/vfio_ap module",
    ]
    lpar.control.load()
    assert told(lpar) == [
        "add /bus/matrix bus",
        "add /devices/vfio_ap/matrix matrix",
        "bind /devices/vfio_ap/matrix matrix DRIVER=vfio_ap",
        "add /bus/matrix/drivers/vfio_ap drivers",
        "add /bus/ap/drivers/vfio_ap drivers",
        "add /bus/mdev/drivers/vfio_ap_mdev drivers",
        "change /devices/vfio_ap/matrix matrix MDEV_STATE=registered DRIVER=vfio_ap",
        "add /module/vfio_ap module",
    ]


def test_u03_the_first_scan_is_announced_once() -> None:
    kernel = boot().kernel
    kernel.advance(60)
    assert [event.variables.get("INITSCAN") for event in kernel.uevents.history].count("done") == 1


def test_u11_a_checkstop_is_silent(lpar: Lpar) -> None:
    lpar.control.checkstop(5)
    assert lpar.read(f"{BUS}/devices/05.0004/chkstop") == "1\n"
    assert not lpar.events()


@pytest.mark.parametrize(("text", "expected"), [("change\n", "ok"), ("add 1234", "ok"), ("shout", "EINVAL")])
def test_a_synthetic_uevent(lpar: Lpar, text: str, expected: str) -> None:
    assert lpar.write(f"{BUS}/devices/05.0004/uevent", text) == expected
    assert len(lpar.events(SYNTH_UUID="0")) == (expected == "ok")
