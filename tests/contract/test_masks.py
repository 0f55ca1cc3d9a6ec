"""Behaviours 1 to 16: masks, bindings and driver_override."""

from __future__ import annotations

import pytest

from .conftest import ALL, BUS, TYPE, A, Lpar

F = "f" * 64


def mask(*cleared: int) -> str:
    """All ones but these bits."""
    return "0x" + f"{(1 << 256) - 1 - sum(1 << 255 - bit for bit in cleared):064x}\n"


def only(*bits: int) -> str:
    """These bits and no others."""
    return "0x" + f"{sum(1 << 255 - bit for bit in bits):064x}\n"


ACCEPTED = [
    ("-5", mask(5)),
    ("-0x14,-22", mask(20, 22)),
    ("-0-255,+1-16,+0x80", only(*range(1, 17), 128)),
    ("+0-255,-128", mask(128)),
    ("-5\n-6", mask(5, 6)),
    ("-4,", mask(4)),
    ("-1,,+1", ALL),
    ("+1+2", ALL),
    ("0x8", only(0)),
    ("0x41", only(1, 7)),
    ("0xffff", only(*range(16))),
    ("FFFF\n", only(*range(16))),
    ("x1", only(3)),
    ("0x\n", only()),
    ("\n", only()),
    ("7" + "f" * 63, mask(0)),
    ("-1-2-3", mask(1, 2, 3)),
    ("-010", mask(8)),
    ("-5\n\n", mask(5)),
]
REFUSED = [
    "f" * 65,
    "0x" + F + "00",
    "0X1",
    "0xzz",
    " 0x1",
    "0-5",
    "-256",
    "+256",
    "+5-3",
    "+1-",
    "-",
    "- 5",
    "+0x",
    "-08",
    "-0-5 ",
    "-5 ",
    ",-5",
    "+-5",
    "+5;-6",
    "none",
    "0xfff\n\n",
]


def test_b01_masks_start_as_all_ones(lpar: Lpar) -> None:
    assert lpar.read(f"{BUS}/apmask") == ALL
    assert lpar.read(f"{BUS}/aqmask") == ALL


def test_b02_a_mask_write_rebinds_before_it_returns(lpar: Lpar) -> None:
    assert lpar.apmask("-5") == "ok"
    assert lpar.read(f"{BUS}/apmask") == mask(5)
    assert {lpar.driver(f"05.{domain}") for domain in ("0004", "0006", "00ab")} == {"vfio_ap"}
    assert lpar.driver("04.0004") == "cex4queue"
    assert lpar.status("05.0004") == "unassigned"
    names = lpar.kernel.list(f"{BUS}/devices/05.0004")
    assert "status" in names
    assert not {"online", "mkvps"} & set(names)
    (event,) = lpar.events(DEVPATH="/devices/ap")
    assert event.variables["ACTION"] == "change"
    assert event.variables["SUBSYSTEM"] == "ap"
    assert event.variables["APMASK"].strip() + "\n" == mask(5)
    assert lpar.kernel.uevents.history[-1] is event, "it is sent after the rebinding"


def test_b03_writing_the_same_mask_does_nothing(lpar: Lpar) -> None:
    lpar.apmask("-5")
    lpar.mark()
    assert lpar.apmask("-5") == "ok"
    assert not lpar.events()


def test_b04_an_empty_line_releases_everything(lpar: Lpar) -> None:
    assert lpar.apmask("\n") == "ok"
    assert lpar.read(f"{BUS}/apmask") == only()
    assert {queue.driver for queue in lpar.kernel.bus.queues.values()} == {"vfio_ap"}


@pytest.mark.parametrize("text", REFUSED)
def test_b05_bad_masks_are_einval(lpar: Lpar, text: str) -> None:
    assert lpar.apmask(text) == "EINVAL"
    assert lpar.aqmask(text) == "EINVAL"
    assert lpar.read(f"{BUS}/apmask") == lpar.read(f"{BUS}/aqmask") == ALL
    assert not lpar.events()


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_k6_vectors(lpar: Lpar, text: str, expected: str) -> None:
    assert lpar.aqmask(text) == "ok"
    assert lpar.read(f"{BUS}/aqmask") == expected


def test_b06_short_hex_is_left_aligned(lpar: Lpar) -> None:
    lpar.control.plug(20)
    assert lpar.apmask("0xffff") == "ok"
    assert lpar.driver("05.0004") == "cex4queue"
    assert lpar.driver("14.0004") == "vfio_ap"


def test_b07_in_use_mask_bit_is_ebusy(lpar: Lpar) -> None:
    lpar.apmask("-5")
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[6])
    lpar.mark()
    assert lpar.apmask("+5") == "EBUSY"
    assert lpar.read(f"{BUS}/apmask") == mask(5)
    assert lpar.log == [
        f"vfio_ap_mdev {A}: Can not reserve queue 05.0006 for host driver: in use by mdev",
    ]
    assert lpar.driver("05.0006") == "vfio_ap"
    assert not lpar.events()


def released_twice(profile: str) -> Lpar:
    lpar = Lpar(profile)
    lpar.apmask("-5")
    lpar.aqmask("-6")
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[6])
    return lpar


def test_b08_the_check_ignores_the_other_mask() -> None:
    assert released_twice("K7.1").apmask("+5") == "EBUSY"


def test_only_bits_that_become_set_are_checked(lpar: Lpar) -> None:
    """A is held by aqmask alone: apmask has its adapter's bit all the time (2.3 step 5)."""
    lpar.aqmask("-6")
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[6])
    assert lpar.apmask("-4") == lpar.apmask("+4") == "ok"
    assert lpar.aqmask("+6") == "EBUSY"


@pytest.mark.parametrize("profile", ["K6.12", "K6.1"])
def test_b08_older_kernels_check_against_the_other_mask(profile: str) -> None:
    lpar = released_twice(profile)
    assert lpar.apmask("+5") == "ok"
    assert lpar.driver("05.0004") == lpar.driver("05.00ab") == "cex4queue"
    assert lpar.driver("05.0006") == "vfio_ap"


def test_b09_without_vfio_ap_released_queues_are_driverless() -> None:
    lpar = Lpar(vfioApLoaded=False)
    assert lpar.apmask("-5") == "ok"
    assert lpar.driver("05.0004") is None
    assert lpar.read(f"{BUS}/bindings") == "6/9\n"
    lpar.mark()
    lpar.scan()
    assert not lpar.events(BINDINGS="complete")
    count = int(lpar.read(f"{BUS}/bindings_complete_count"))
    lpar.control.load()
    assert lpar.driver("05.0004") == "vfio_ap"
    assert lpar.read(f"{BUS}/bindings") == "9/9 (complete)\n"
    (event,) = lpar.events(BINDINGS="complete")
    assert event.variables["COMPLETECOUNT"] == str(count + 1)


def test_b10_completeness_is_announced_by_the_next_scan(lpar: Lpar) -> None:
    lpar.apmask("-5")
    assert not lpar.events(BINDINGS="complete")
    lpar.scan()
    assert len(lpar.events(BINDINGS="complete")) == 1
    lpar.scan()
    assert len(lpar.events(BINDINGS="complete")) == 1


def test_b10_the_scan_comes_by_itself(lpar: Lpar) -> None:
    lpar.apmask("-5")
    lpar.kernel.advance(29)
    assert not lpar.events(BINDINGS="complete")
    lpar.kernel.advance(2)
    assert len(lpar.events(BINDINGS="complete")) == 1


OVERRIDE = f"{BUS}/devices/05.0006/driver_override"


def test_b11_an_override_does_not_rebind(lpar: Lpar) -> None:
    assert lpar.write(OVERRIDE, "vfio_ap\n") == "ok"
    assert lpar.read(OVERRIDE) == "vfio_ap\n"
    assert lpar.driver("05.0006") == "cex4queue"


def test_b12_overrides_close_the_masks(lpar: Lpar) -> None:
    lpar.write(OVERRIDE, "vfio_ap")
    assert lpar.apmask("-4") == "EINVAL"
    assert lpar.apmask("+0-255") == "EINVAL"
    assert lpar.write(OVERRIDE, "\n") == "ok"
    assert lpar.apmask("-4") == "ok"


def test_b13_an_overridden_and_bound_queue_can_be_assigned(lpar: Lpar) -> None:
    lpar.write(OVERRIDE, "vfio_ap")
    assert lpar.write(f"{BUS}/drivers/cex4queue/unbind", "05.0006") == "ok"
    assert lpar.write(f"{BUS}/drivers_probe", "05.0006\n") == "ok"
    assert lpar.driver("05.0006") == "vfio_ap"
    lpar.create(A)
    lpar.assign(A, adapters=[5], domains=[6])
    assert lpar.guest_matrix(A) == ["05.0006"]
    assert lpar.mdev(A, "assign_domain", 4) == "EADDRNOTAVAIL"


def test_b14_an_overridden_but_unbound_queue_is_the_hosts(lpar: Lpar) -> None:
    lpar.write(OVERRIDE, "vfio_ap")
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "05.0006")
    lpar.create(A)
    lpar.assign(A, adapters=[5])
    assert lpar.mdev(A, "assign_domain", 6) == "EADDRNOTAVAIL"


def test_b15_masks_close_the_overrides(lpar: Lpar) -> None:
    lpar.apmask("-4")
    assert lpar.write(OVERRIDE, "vfio_ap") == "EINVAL"
    assert lpar.write(OVERRIDE, "\n") == "EINVAL"
    lpar.apmask("+4")
    assert lpar.write(OVERRIDE, "vfio_ap") == "ok"


def test_b16_bind_obeys_the_masks(lpar: Lpar) -> None:
    lpar.apmask("-5")
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "04.0004")
    assert lpar.write(f"{BUS}/drivers/vfio_ap/bind", "04.0004") == "ENODEV"
    assert lpar.driver("04.0004") is None
    assert lpar.write(f"{BUS}/drivers/vfio_ap/bind", "05.0004") == "EBUSY"
    assert lpar.write(f"{BUS}/drivers/cex4queue/bind", "04.0004") == "ok"


def test_k19_a_vanished_override_keeps_the_masks_closed(lpar: Lpar) -> None:
    lpar.write(OVERRIDE, "vfio_ap")
    lpar.control.unplug(5)
    assert not lpar.has(f"{BUS}/devices/05.0006")
    assert lpar.apmask("-4") == "EINVAL"


@pytest.mark.parametrize(
    ("profile", "released", "reserved"), [("K7.1", "vfio_ap", None), ("K6.12", None, "cex4queue")]
)
def test_driverless_queues_at_a_mask_write(profile: str, released: str | None, reserved: str | None) -> None:
    """As the real 7.2 and 6.12 did it; neither is what one would wish for."""
    lpar = Lpar(profile)
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "05.0004")
    lpar.apmask("-6")
    assert lpar.driver("05.0004") == reserved
    lpar.apmask("-5")
    lpar.write(f"{BUS}/drivers/vfio_ap/unbind", "05.0006")
    lpar.apmask("-4")
    assert lpar.driver("05.0006") == released


def test_boot_masks_start_from_zero() -> None:
    lpar = Lpar(apmask="0x08", aqmask="+0-255")
    assert lpar.read(f"{BUS}/apmask") == only(4)
    assert lpar.driver("04.0004") == "cex4queue"
    assert lpar.driver("05.0004") == "vfio_ap"
    assert lpar.read("/sys/module/ap/parameters/apmask") == "0x08\n"
    assert lpar.has(f"{TYPE}/create")
