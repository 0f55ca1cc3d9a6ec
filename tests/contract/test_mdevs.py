"""Behaviours 17 to 36: life of mdevs, assignment, filtering and ap_config."""

from __future__ import annotations

import pytest

from vfio_ap.host.ops import Data, Read

from .conftest import BUS, MATRIX, TYPE, A, B, Lpar, outcome


@pytest.fixture
def released(lpar: Lpar) -> Lpar:
    """Adapters 5 and 6 given to vfio_ap, mdevs A and B created."""
    assert lpar.apmask("-5,-6") == "ok"
    assert lpar.create(A) == lpar.create(B) == "ok"
    lpar.mark()
    return lpar


def masks(adapters: list[int], domains: list[int], control: list[int]) -> str:
    """The line of ap_config."""
    words = [sum(1 << 255 - bit for bit in bits) for bits in (adapters, domains, control)]
    return ",".join(f"0x{word:064x}" for word in words) + "\n"


def test_b17_create(lpar: Lpar) -> None:
    assert lpar.create(A.upper()) == "ok"
    assert lpar.has(f"{MATRIX}/{A}")
    assert lpar.read(f"{TYPE}/available_instances") == "65535\n"
    assert lpar.create(A + "\n") == "EEXIST"
    for bad in (A[:-1], A + "aa", "g" + A[1:], A.replace("-", ""), "\n"):
        assert lpar.create(bad) == "EINVAL"


def test_b18_remove(lpar: Lpar) -> None:
    lpar.create(A)
    assert lpar.mdev(A, "remove", "0") == "ok"
    assert lpar.has(f"{MATRIX}/{A}")
    assert lpar.mdev(A, "remove", "x") == lpar.mdev(A, "remove", 2**64) == "EINVAL"
    assert lpar.mdev(A, "remove", "1\n") == "ok"
    assert not lpar.has(f"{MATRIX}/{A}")
    assert lpar.read(f"{TYPE}/available_instances") == "65536\n"
    assert lpar.mdev(A, "remove", "1") == "ENOENT"


def test_b19_the_first_half_of_an_illegal_matrix_is_accepted(lpar: Lpar) -> None:
    lpar.create(A)
    assert lpar.mdev(A, "assign_adapter", 5) == "ok"
    assert lpar.read(f"{MATRIX}/{A}/matrix") == "05.\n"
    assert lpar.mdev(A, "assign_domain", 6) == "EADDRNOTAVAIL"
    assert lpar.read(f"{MATRIX}/{A}/matrix") == "05.\n"


def test_b20_assign(released: Lpar) -> None:
    released.assign(A, adapters=[5], domains=[6])
    assert released.read(f"{MATRIX}/{A}/matrix") == "05.0006\n"
    assert released.read(f"{MATRIX}/{A}/guest_matrix") == "05.0006\n"
    assert released.status("05.0006") == "assigned"
    assert released.status("05.0004") == "unassigned"


def test_b21_assigning_again_and_unassigning_nothing_succeed(released: Lpar) -> None:
    released.assign(A, adapters=[5, 5], domains=[6])
    assert released.mdev(A, "unassign_adapter", 6) == "ok"
    assert released.mdev(A, "unassign_domain", 4) == "ok"
    assert released.matrix(A) == ["05.0006"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300", "ENODEV"),
        ("256", "ENODEV"),
        ("abc", "EINVAL"),
        ("08", "EINVAL"),
        ("0x5", "ok"),
        ("+5\n", "ok"),
        ("-1", "EINVAL"),
        (" 5", "EINVAL"),
        ("5 ", "EINVAL"),
        ("5,6", "EINVAL"),
        ("0x", "EINVAL"),
        ("\n", "EINVAL"),
        (str(2**64), "ERANGE"),
        (str(2**64 - 1), "ENODEV"),
    ],
)
def test_b22_numbers(released: Lpar, text: str, expected: str) -> None:
    for attribute in ("assign_adapter", "unassign_adapter", "unassign_domain", "assign_control_domain"):
        assert released.mdev(A, attribute, text) == expected


def test_b22_the_maximum_is_the_machines() -> None:
    lpar = Lpar(maxDomain=0xAB)
    lpar.create(A)
    assert lpar.mdev(A, "assign_domain", 0xAB) == "ok"
    assert lpar.mdev(A, "assign_domain", 0xAC) == "ENODEV"
    assert lpar.mdev(A, "assign_control_domain", 0xAC) == "ENODEV"


def test_b23_no_sharing_but_of_control_domains(released: Lpar) -> None:
    released.assign(A, adapters=[5], domains=[4, 6])
    released.assign(B, adapters=[5])
    assert released.mdev(B, "assign_domain", 6) == "EADDRINUSE"
    assert released.log == [
        f"vfio_ap_mdev {B}: Userspace may not assign queue 05.0006 to mdev: already assigned to {A}"
    ]
    assert released.matrix(B) == ["05."]
    assert released.mdev(A, "assign_control_domain", 6) == released.mdev(B, "assign_control_domain", 6) == "ok"
    assert released.read(f"{MATRIX}/{B}/control_domains") == "0006\n"


def test_b24_a_domain_the_host_lacks_is_assigned_but_not_passed(released: Lpar) -> None:
    released.aqmask("-7")
    released.assign(A, adapters=[5], domains=[6, 7])
    assert released.matrix(A) == ["05.0006", "05.0007"]
    assert released.guest_matrix(A) == ["05.0006"]


def test_b25_an_adapter_that_comes_later_is_plugged_in(released: Lpar) -> None:
    released.apmask("-9")
    released.assign(A, adapters=[5, 9], domains=[4, 6])
    assert "09.0004" in released.matrix(A)
    assert released.guest_matrix(A) == ["05.0004", "05.0006"]
    released.control.plug(9, scan=False)
    assert released.guest_matrix(A) == ["05.0004", "05.0006"]
    released.scan()
    assert released.guest_matrix(A) == ["05.0004", "05.0006", "09.0004", "09.0006"]


def test_b25_an_absent_adapter_alone_is_not_passed(released: Lpar) -> None:
    released.assign(A, adapters=[5, 9])
    assert released.guest_matrix(A) == ["05."]


def test_b26_half_a_matrix(released: Lpar) -> None:
    assert released.read(f"{MATRIX}/{A}/matrix") == ""
    released.assign(A, domains=[6])
    assert released.read(f"{MATRIX}/{A}/matrix") == ".0006\n"


@pytest.fixture
def filtered(released: Lpar) -> Lpar:
    """A = {5,6 x 4,6} with 05.0004 unbound."""
    released.assign(A, adapters=[5, 6], domains=[4, 6])
    assert released.write(f"{BUS}/drivers/vfio_ap/unbind", "05.0004") == "ok"
    return released


def test_b27_one_missing_queue_drops_its_adapter(filtered: Lpar) -> None:
    assert filtered.guest_matrix(A) == ["06.0004", "06.0006"]
    assert filtered.matrix(A) == ["05.0004", "05.0006", "06.0004", "06.0006"]
    assert filtered.resets("05.0006") == 1
    assert filtered.resets("06.0006") == 0
    filtered.assign(A, domains=[0xAB])
    assert filtered.guest_matrix(A) == ["06.0004", "06.0006", "06.00ab"], "filtering anew finds the same"


def test_b28_bound_again_it_returns(filtered: Lpar) -> None:
    assert filtered.write(f"{BUS}/drivers/vfio_ap/bind", "05.0004") == "ok"
    assert filtered.guest_matrix(A) == filtered.matrix(A)


def test_b29_with_all_adapters_filtered_the_domains_remain(filtered: Lpar) -> None:
    filtered.write(f"{BUS}/drivers/vfio_ap/unbind", "06.0006")
    assert filtered.guest_matrix(A) == [".0004", ".0006"]


@pytest.mark.parametrize("verb", ["deconfigure", "checkstop"])
def test_b30_a_queue_out_of_order_stays(released: Lpar, verb: str) -> None:
    released.assign(A, adapters=[5, 6], domains=[4, 6])
    getattr(released.control, verb)(5)
    assert released.guest_matrix(A) == released.matrix(A)
    released.mdev(A, "assign_domain", 0xAB)
    assert "05.00ab" in released.guest_matrix(A)


def test_b31_unassign_does_not_refilter(filtered: Lpar) -> None:
    assert filtered.mdev(A, "unassign_domain", 4) == "ok"
    assert filtered.guest_matrix(A) == ["06.0006"]
    filtered.assign(A, domains=[0xAB])
    assert filtered.guest_matrix(A) == ["05.0006", "05.00ab", "06.0006", "06.00ab"]


def test_b32_ap_config_round_trip(released: Lpar) -> None:
    line = masks([5], [4, 6], [6, 9])
    assert released.mdev(A, "ap_config", line) == "ok"
    assert released.read(f"{MATRIX}/{A}/ap_config") == line
    assert len(line) == 201
    assert released.guest_matrix(A) == ["05.0004", "05.0006"]


def test_b33_short_masks_are_left_aligned(released: Lpar) -> None:
    assert released.mdev(A, "ap_config", "0x04,0x02,0x00\n") == "ok"
    assert released.matrix(A) == ["05.0006"]


def test_b34_tokens(released: Lpar) -> None:
    released.mdev(A, "ap_config", "0x04,0x02,0x02")
    before = released.read(f"{MATRIX}/{A}/ap_config")
    for bad in (
        "0x04,0x02",
        "-5,+6,+6",
        "0x04, 0x02,0",
        "zz,0x02,0",
        "0x04\n",
        "\n",
        masks([5], [6], [6])[:66] + "00",
    ):
        assert released.mdev(A, "ap_config", bad) == "EINVAL"
        assert released.read(f"{MATRIX}/{A}/ap_config") == before
    assert released.mdev(A, "ap_config", "0x04,0x02\n") == "ok"
    assert released.read(f"{MATRIX}/{A}/ap_config") == masks([5], [6], [])
    assert released.mdev(A, "ap_config", "0x04,0x02,0x02,rubbish") == "ok"
    assert released.read(f"{MATRIX}/{A}/ap_config") == before


def test_b35_order_of_refusals() -> None:
    lpar = Lpar(maxDomain=0xAB, maxAdapter=84)
    lpar.apmask("-5,-6,-255")
    lpar.create(A)
    lpar.create(B)
    lpar.mdev(A, "ap_config", masks([5], [6], []))
    lpar.mdev(B, "ap_config", masks([6], [6], []))
    before = lpar.read(f"{MATRIX}/{A}/ap_config"), lpar.guest_matrix(A), lpar.resets("05.0006")
    lpar.mark()
    assert lpar.mdev(A, "ap_config", masks([4, 6, 255], [6], [])) == "EADDRNOTAVAIL"
    assert not lpar.log
    assert lpar.mdev(A, "ap_config", masks([6, 255], [6], [])) == "EADDRINUSE"
    assert len(lpar.log) == 1
    assert lpar.mdev(A, "ap_config", masks([5, 255], [6], [])) == "ENODEV"
    assert lpar.mdev(A, "ap_config", masks([5], [6], [0xAC])) == "ENODEV"
    assert (lpar.read(f"{MATRIX}/{A}/ap_config"), lpar.guest_matrix(A), lpar.resets("05.0006")) == before


def test_b36_a_swap_is_never_seen_half_done(released: Lpar) -> None:
    released.assign(A, adapters=[5], domains=[6])
    released.control.reset_time(1000)
    swap = released.start(f"{MATRIX}/{A}/ap_config", masks([6], [6], []))
    seen = released.kernel.submit(Read(f"{MATRIX}/{A}/matrix"))
    assert outcome(swap) == outcome(seen) == "blocks"
    released.kernel.advance(2)
    assert outcome(swap) == "ok"
    assert seen.result() == Data(b"06.0006\n")
    assert released.resets("05.0006") == 1
