"""Behaviours 44 to 51: size, card and queue attributes, features."""

from __future__ import annotations

import errno

import pytest

from .conftest import BUS, MATRIX, A, Lpar

CARD = f"{BUS}/devices/card05"


def big(profile: str = "K7.1") -> Lpar:
    lpar = Lpar(profile, adapters=[{"id": n} for n in range(32)], usageDomains="0-31")
    lpar.apmask("\n")
    lpar.create(A)
    return lpar


def left_aligned(count: int) -> str:
    return f"0x{((1 << count) - 1) << 256 - count:064x}"


@pytest.mark.parametrize(("adapters", "domains", "size"), [(16, 32, 4095), (73, 7, 4088)])
def test_b44_matrix_is_cut_at_a_page(adapters: int, domains: int, size: int) -> None:
    lpar = big()
    line = f"{left_aligned(adapters)},{left_aligned(domains)},{left_aligned(0)}\n"
    assert lpar.mdev(A, "ap_config", line) == "ok"
    text = lpar.read(f"{MATRIX}/{A}/matrix")
    assert len(text) == size
    assert text.count("\n") == 511
    assert lpar.read(f"{MATRIX}/{A}/ap_config") == line
    assert not lpar.kernel.hazards


def test_b45_the_full_matrix() -> None:
    lpar = big()
    line = ",".join(["0x" + "f" * 64] * 3) + "\n"
    assert lpar.aqmask("\n") == lpar.mdev(A, "ap_config", line) == "ok"
    assert lpar.read(f"{MATRIX}/{A}/ap_config") == line
    assert lpar.kernel.mdevs is not None
    assert lpar.kernel.mdevs.by_uuid[A].assigned.size() == 65536
    assert len(lpar.read(f"{MATRIX}/{A}/matrix")) == 4095


def test_b45_old_kernels_flag_the_unsafe_read() -> None:
    lpar = big("K6.12")
    lpar.mdev(A, "ap_config", f"{left_aligned(16)},{left_aligned(32)},0\n")
    lpar.read(f"{MATRIX}/{A}/matrix")
    assert len(lpar.kernel.hazards) == 1


def test_b46_mkvps() -> None:
    types = [{"id": 4, "type": "CEX8A"}, {"id": 5, "type": "CEX8C"}, {"id": 6, "type": "CEX8P"}]
    lpar = Lpar(adapters=types)
    lines = lpar.read(f"{BUS}/devices/05.0004/mkvps").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"{register} {state}" for register in ("AES", "APKA", "ASYM") for state in ("NEW", "CUR", "OLD")
    ]
    assert lines[0] == "AES NEW: empty 0x0000000000000000"
    assert len(lines[7].removeprefix("ASYM CUR: valid 0x")) == 32
    current, new = lpar.read(f"{BUS}/devices/06.0004/mkvps").splitlines()
    assert len(current.removeprefix("WK CUR: valid 0x")) == 64
    assert new == "WK NEW: empty -"
    assert not lpar.has(f"{BUS}/devices/04.0004/mkvps")
    lpar.apmask("-5")
    assert not lpar.has(f"{BUS}/devices/05.0004/mkvps")
    assert not lpar.has(f"{BUS}/devices/05.0004/online")
    assert lpar.has(f"{BUS}/devices/05.0004/status")


def test_b47_the_serial_number_needs_a_host_queue(lpar: Lpar) -> None:
    serial = lpar.read(f"{CARD}/serialnr")
    assert len(serial.strip()) == 8
    lpar.apmask("-5")
    assert lpar.read(f"{CARD}/serialnr") == "\n"
    lpar.apmask("+5")
    assert lpar.read(f"{CARD}/serialnr") == serial


def test_b48_config(lpar: Lpar) -> None:
    assert lpar.write(f"{CARD}/config", "0") == "ok"
    (event,) = lpar.events()
    assert event.variables["DEVPATH"] == "/devices/ap/card05"
    assert event.variables["CONFIG"] == "0"
    assert lpar.read(f"{CARD}/online") == "0\n"
    assert lpar.read(f"{BUS}/devices/05.0004/config") == "1\n"
    assert lpar.write(f"{CARD}/online", "1") == "ENODEV"
    lpar.mark()
    lpar.scan()
    assert [event.variables["DEVPATH"] for event in lpar.events(CONFIG="0")] == [
        f"/devices/ap/card05/05.{domain}" for domain in ("0004", "0006", "00ab")
    ]
    assert lpar.write(f"{CARD}/config", "2") == lpar.write(f"{CARD}/config", "x") == "EINVAL"


def test_b49_a_queue_cannot_be_online_without_its_card(lpar: Lpar) -> None:
    assert lpar.write(f"{CARD}/online", "0") == "ok"
    assert lpar.read(f"{BUS}/devices/05.0004/online") == "0\n"
    assert len(lpar.events(ONLINE="0")) == 4
    assert lpar.write(f"{BUS}/devices/05.0004/online", "1") == "EINVAL"
    assert lpar.write(f"{CARD}/online", "1") == "ok"
    assert lpar.read(f"{BUS}/devices/05.0004/online") == "1\n"


@pytest.mark.parametrize("profile", ["K6.12", "K7.1"])
def test_b50_features(profile: str) -> None:
    assert Lpar(profile).read(f"{MATRIX}/features").split() == ["guest_matrix", "hotplug", "ap_config"]


def test_b50_the_oldest_kernel_lacks_files() -> None:
    lpar = Lpar("K6.1")
    lpar.create(A)
    assert not lpar.has(f"{MATRIX}/features")
    assert not lpar.has(f"{MATRIX}/{A}/ap_config")
    assert not lpar.has(f"{BUS}/features")
    assert not lpar.has(f"{BUS}/bindings_complete_count")
    assert not lpar.has(f"{BUS}/devices/05.0004/driver_override")
    assert not lpar.has(f"{BUS}/devices/05.0004/ap_functions")
    assert lpar.has(f"{MATRIX}/{A}/guest_matrix")


def test_b51_migration_capability() -> None:
    new, old = Lpar("MIGv4PLUS"), Lpar("MIGv1")
    new.create(A)
    old.create(A)
    assert "migratable" in new.read(f"{MATRIX}/features").split()
    assert "migratable" in old.read(f"{MATRIX}/features").split()
    assert not new.has(f"{MATRIX}/{A}/migratable")
    assert old.read(f"{MATRIX}/{A}/migratable") == "0\n"
    assert old.mdev(A, "migratable", "2") == "EINVAL"
    assert old.mdev(A, "migratable", "1") == "ok"
    assert old.read(f"{MATRIX}/{A}/migratable") == "1\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (BUS, errno.EISDIR),
        (f"{BUS}/drivers_probe", errno.EACCES),
        (f"{BUS}/drivers/vfio_ap/bind", errno.EACCES),
        (f"{BUS}/nothing", errno.ENOENT),
        (f"{BUS}/apmask/x", errno.ENOTDIR),
        (f"{BUS}/devices/05.0099/config", errno.ENOENT),
        (f"{BUS}/devices/5.4/config", errno.ENOENT),
    ],
)
def test_s3_reads_that_fail(lpar: Lpar, path: str, expected: int) -> None:
    with pytest.raises(OSError) as refused:
        lpar.read(path)
    assert refused.value.errno == expected


def test_s3_writes_that_fail(lpar: Lpar) -> None:
    assert lpar.write(f"{BUS}/bindings", "1") == lpar.write(f"{CARD}/hwtype", "1") == "EACCES"
    assert lpar.write(BUS, "1") == "EISDIR"


def test_links_are_followed(lpar: Lpar) -> None:
    lpar.apmask("-5")
    assert lpar.read(f"{BUS}/devices/05.0004/driver/05.0006/status") == "unassigned\n"
    assert lpar.kernel.link(f"{BUS}/devices/05.0004") == "../../../devices/ap/card05/05.0004"


def test_k13_another_type_is_another_card(lpar: Lpar) -> None:
    lpar.write(f"{BUS}/drivers/cex4queue/unbind", "05.0004")
    lpar.control.set_type(5, "CEX7P")
    assert lpar.read(f"{CARD}/type") == "CEX7P\n"
    assert lpar.driver("05.0004") == "cex4queue"
    assert lpar.events(ACTION="remove", DEVPATH="/devices/ap/card05")


def test_q03_a_queue_made_for_vfio_ap_keeps_the_hosts_state_machine(lpar: Lpar) -> None:
    """As a real 7.2 shows it; one that was moved over is uninitiated."""
    queue = f"{BUS}/devices/05.0004"
    lpar.apmask("-5")
    assert lpar.read(f"{queue}/request_count") == "-\n"
    assert lpar.read(f"{queue}/interrupt") == "Interrupts disabled.\n"
    lpar.control.unplug(5)
    lpar.control.plug(5)
    assert lpar.status("05.0004") == "unassigned"
    assert lpar.read(f"{queue}/request_count") == "0\n"
    assert lpar.read(f"{queue}/interrupt") == "Interrupts enabled.\n"
    lpar.write(f"{queue}/reset", "1")
    assert lpar.resets("05.0004") == 1


def test_key_names_make_equal_keys() -> None:
    one = Lpar(name="one", adapters=[{"id": 5, "keys": {"default": "shared", "6": "other"}}])
    two = Lpar(name="two", adapters=[{"id": 7, "keys": "shared"}])
    mkvps = f"{BUS}/devices/05.{{}}/mkvps"
    assert one.read(mkvps.format("0004")) == two.read(f"{BUS}/devices/07.0004/mkvps")
    assert one.read(mkvps.format("0004")) != one.read(mkvps.format("0006"))
    one.control.set_key(5, "shared", domain=6)
    assert one.read(mkvps.format("0004")) == one.read(mkvps.format("0006"))
