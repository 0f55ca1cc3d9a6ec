"""Behaviours 52 to 58: live migration between two hosts, and the cases of the real code's table.

Ids such as O5 or M4 are those of transcripts/migration/README.md, for the cases of which there is no transcript.
"""

from __future__ import annotations

import errno

import pytest

from vfio_ap_sim.kernel import ControlError, SysfsError
from vfio_ap_sim.kernel.migration import Outcome, Session, State, migrate

from .conftest import BUS, MATRIX, A, B, Lpar, outcome

USUAL = {"adapters": [{"id": 4}, {"id": 5}, {"id": 6}], "usageDomains": "4,6,0xab", "controlDomains": "4,6,0xab"}
FACILITIES = 0x93000000


def host(profile: str = "MIGv4PLUS-T", **machine: object) -> Lpar:
    """A host that leaves all queues to vfio_ap, with an empty mdev A."""
    lpar = Lpar(profile, **{**USUAL, **machine})
    lpar.apmask("\n")
    lpar.create(A)
    if lpar.has(f"{MATRIX}/{A}/migratable"):
        lpar.mdev(A, "migratable", 1)
    lpar.mark()
    return lpar


def source(profile: str = "MIGv4PLUS-T", **machine: object) -> Lpar:
    """A host whose guest has {5,6 x 4,6} and control domain 4."""
    lpar = host(profile, **machine)
    lpar.assign(A, adapters=[5, 6], domains=[4, 6])
    lpar.mdev(A, "assign_control_domain", 4)
    assert lpar.control.start_guest("vm", A).done
    lpar.mark()
    return lpar


def move(here: Lpar, there: Lpar) -> Outcome:
    return migrate(here.control, there.control, A)


def one_card(functions: int = FACILITIES, kind: str = "CEX8C") -> list[dict[str, object]]:
    """Adapters of which 5 is special."""
    return [{"id": 4}, {"id": 5, "type": kind, "functions": functions}, {"id": 6}]


def pair(
    profile: str, here: list[dict[str, object]], there: list[dict[str, object]]
) -> tuple[Outcome, Lpar, Lpar]:
    """Move a guest with {5 x 4} between hosts with these adapters."""
    first, second = host(profile, adapters=here), host(profile, adapters=there)
    for lpar in (first, second) if profile == "MIGv1" else (first,):
        lpar.assign(A, adapters=[5], domains=[4])
    first.control.start_guest("vm", A)
    return move(first, second), first, second


def test_b52_the_target_takes_the_sources_guest_matrix() -> None:
    here, there = source(), host()
    assert there.matrix(A) == []
    here.write(f"{BUS}/drivers/vfio_ap/unbind", "06.0006")
    moved = move(here, there)
    assert moved.ok and not moved.log
    assert there.matrix(A) == there.guest_matrix(A) == ["05.0004", "05.0006"], "the filtered adapter is lost"
    assert there.read(f"{MATRIX}/{A}/control_domains") == "0004\n"
    assert there.status("05.0004") == "in use"
    assert len(moved.stream) == 48 + 16 * 2
    assert "vm" not in here.kernel.guests
    assert here.matrix(A) == ["05.0004", "05.0006", "06.0004", "06.0006"], "L-12: the assignment stays behind"
    assert here.resets("05.0004") == 1


def test_b53_every_queue_that_is_not_with_vfio_ap_is_named() -> None:
    here, there = source(), host()
    there.apmask("+6")
    moved = move(here, there)
    assert moved.name == "ENODEV"
    assert list(moved.log) == [
        f"vfio_ap_mdev {A}: Queue {queue} not available to vfio_ap driver on target host"
        for queue in ("06.0004", "06.0006")
    ]
    assert there.matrix(A) == []
    assert here.status("05.0004") == "in use"
    assert Session(here.control, A).state() is State.RUNNING


@pytest.mark.parametrize(
    ("here", "there", "refused"),
    [
        (one_card(kind="CEX7C"), one_card(kind="CEX8C"), None),
        (one_card(kind="CEX8C"), one_card(kind="CEX7C"), "AP type of source (0e) not compatible with target (0d)"),
        (one_card(0x93800000), one_card(0x93400000), "Only stateless functions available on target queue 05.0004"),
        (one_card(0x93400000), one_card(0x93800000), None),
    ],
)
def test_b54_newer_is_fine_and_full_function_must_stay(here: list, there: list, refused: str | None) -> None:
    moved, _, target = pair("MIGv4PLUS-T", here, there)
    assert moved.name == (None if refused is None else "EINVAL")
    assert refused is None or moved.log[-1] == f"vfio_ap_mdev {A}: {refused}"
    assert target.matrix(A) == (["05.0004"] if refused is None else [])


def test_b54_the_first_version_wants_the_classes_equal() -> None:
    moved, _, _ = pair("MIGv1", one_card(0x93400000), one_card(0x93800000))
    assert moved.name == "EFAULT"
    assert pair("MIGv1", one_card(kind="CEX7C"), one_card(kind="CEX8C"))[0].ok


@pytest.mark.parametrize(("profile", "errno_name"), [("MIGv4PLUS-T", "EINVAL"), ("MIGv1", "EFAULT")])
def test_b55_two_lines_for_each_feature_that_differs(profile: str, errno_name: str) -> None:
    moved, _, _ = pair(profile, one_card(FACILITIES), one_card(FACILITIES & ~0x80000000))
    assert moved.name == errno_name
    assert list(moved.log[:3]) == [
        f"vfio_ap_mdev {A}: Migration failed: Source and target queue (05.0004) not compatible",
        f"vfio_ap_mdev {A}: APSC facility installed in source queue 05.0004",
        f"vfio_ap_mdev {A}: APSC facility not installed in target queue 05.0004",
    ]


def test_b55_the_code_as_it_is_compares_no_facilities() -> None:
    moved, _, target = pair("MIGv4PLUS", one_card(FACILITIES), one_card(0x08404000))
    assert moved.ok and not moved.log
    assert target.matrix(A) == ["05.0004"]


def test_b55_kernels_of_both_kinds_refuse_each_other() -> None:
    here, there = source("MIGv4PLUS"), host("MIGv4PLUS-T")
    moved = move(here, there)
    assert moved.name == "EINVAL"
    assert f"vfio_ap_mdev {A}: APSC facility not installed in source queue 05.0004" in moved.log


def test_b56_control_domains() -> None:
    here, there = source(), host(controlDomains="6,0xab")
    moved = move(here, there)
    assert moved.name == "ENODEV"
    text = f"vfio_ap_mdev: {A}: Control domain 0004 not available on the destination host"
    assert moved.log == (text,)
    here, there = source("MIGv1"), host("MIGv1", controlDomains="6,0xab")
    there.assign(A, adapters=[5, 6], domains=[4, 6])
    assert move(here, there).ok, "the first version does not look"


def test_b57_what_another_mdev_has_is_refused() -> None:
    here, there = source(), host()
    there.create(B)
    there.assign(B, adapters=[6], domains=[4])
    there.assign(A, adapters=[4], domains=[6])
    moved = move(here, there)
    assert moved.name == "EADDRINUSE"
    assert moved.log == (
        f"vfio_ap_mdev {A}: Userspace may not assign queue 06.0004 to mdev: already assigned to {B}",
    )
    assert there.matrix(A) == ["04.0006"]
    assert there.matrix(B) == ["06.0004"]


def test_b58_the_first_version_wants_equal_numbers() -> None:
    def differing(ours: list[int], theirs: list[int]) -> Outcome:
        here, there = host("MIGv1"), host("MIGv1")
        here.assign(A, adapters=ours, domains=[4, 6])
        there.assign(A, adapters=theirs, domains=[4, 6])
        here.control.start_guest("vm", A)
        return move(here, there)

    more = differing([4, 5, 6], [5, 6])
    assert more.name == "EIO"
    assert more.log == (
        f"vfio_ap_mdev {A}: migration failed: source guest's AP config size (104) larger than target's (72)",
    )
    fewer = differing([5, 6], [4, 5, 6])
    assert fewer.name == "ENODEV"
    assert fewer.log == (
        f"vfio_ap_mdev {A}: migration failed: number of queues on source (4) and target (6) guests differ",
    )
    other = differing([5, 6], [4, 5])
    assert other.name == "ENODEV"
    assert other.log[0] == f"vfio_ap_mdev {A}: migration failed: queue 06.0004 not assigned to guest matrix"


def test_v1_its_stream_has_no_magic_and_its_files_end_with_the_state() -> None:
    here = source("MIGv1")
    session = Session(here.control, A)
    file = session.set_state(State.STOP_COPY)
    assert file is not None
    stream = session.read_all(file, 7)
    assert stream[:8] == bytes.fromhex("0000000400000000")
    assert len(stream) == 8 + 16 * 4
    assert here.mdev(A, "migratable", 0) == "EBUSY"
    session.set_state(State.RUNNING)
    assert here.mdev(A, "migratable", 0) == "ok"
    with pytest.raises(SysfsError) as refused:
        session.read(file)
    assert refused.value.errno == errno.ENODEV
    assert here.kernel.hazards, "the kernel would have looked up the mdev of a disabled file"
    with pytest.raises(SysfsError) as refused:
        session.data_size()
    assert refused.value.errno == errno.EOPNOTSUPP


def test_v1_nothing_begins_unless_both_are_migratable() -> None:
    here, there = source("MIGv1"), host("MIGv1")
    there.mdev(A, "migratable", 0)
    with pytest.raises(ControlError, match="'migratable' of mdev"):
        move(here, there)


@pytest.mark.parametrize("profile", ["K6.1", "K6.12", "K7.1"])
def test_l2_kernels_without_the_series_do_not_migrate(profile: str) -> None:
    here, there = source(profile), host(profile)
    with pytest.raises(ControlError, match="not supported in kernel"):
        move(here, there)
    with pytest.raises(SysfsError) as refused:
        Session(here.control, A).set_state(State.STOP)
    assert refused.value.errno == errno.ENOTTY


def test_l6_before_the_device_is_open_and_in_a_secure_guest() -> None:
    there = host()
    session = Session(there.control, A)
    assert session.state() is State.RUNNING
    assert session.set_state(State.RUNNING) is None
    with pytest.raises(SysfsError) as refused:
        session.set_state(State.STOP)
    assert refused.value.errno == errno.ENODEV
    for profile, number in (("MIGv4PLUS", errno.ENOTTY), ("MIGv1", errno.EPERM)):
        here = source(profile, secureGuest=True)
        with pytest.raises(SysfsError) as refused:
            Session(here.control, A).set_state(State.STOP)
        assert refused.value.errno == number
    assert here.log == [f"vfio_ap_mdev {A}: Migration not allowed from or to a Secure Execution guest"]
    assert move(here, host("MIGv1")).name == "EPERM"
    here, there = source("MIGv4PLUS"), host("MIGv4PLUS", secureGuest=True)
    moved = move(here, there)
    assert (moved.name, moved.step) == ("ENOTTY", "write")
    assert not there.kernel.guests and here.status("05.0004") == "in use"


def test_a_target_without_the_mdev_is_told_before_anything_begins() -> None:
    here = source()
    there = Lpar("MIGv4PLUS")
    with pytest.raises(ControlError, match=f"mediated device '{A}' not found"):
        move(here, there)


def test_m4_a_cancelled_migration_leaves_its_stream_for_the_next() -> None:
    here = source()
    session = Session(here.control, A)
    first = session.set_state(State.STOP_COPY)
    assert first is not None
    stream = session.read_all(first)
    session.set_state(State.RUNNING)
    here.mdev(A, "unassign_adapter", 6)
    second = session.set_state(State.STOP_COPY)
    assert second is not None
    assert session.data_size() == 80
    assert session.read_all(second) == stream, "112 bytes of the old configuration"
    here.control.reset_guest("vm").result()
    third = session.set_state(State.STOP_COPY)
    assert third is not None
    assert len(session.read_all(third)) == 80, "M4b: a reset in between heals"


def test_m3_after_the_first_read_the_stream_stays() -> None:
    here = source()
    session = Session(here.control, A)
    file = session.set_state(State.STOP_COPY)
    assert file is not None
    begin = session.read(file, 16)
    here.mdev(A, "unassign_adapter", 6)
    assert len(begin + session.read_all(file)) == 112


def test_m9_another_mdev_takes_a_queue_between_two_writes() -> None:
    here, there = source(), host()
    there.create(B)
    stream = stream_of(here)
    target = resuming(there)
    target[0].write(target[1], stream[:64])
    there.assign(B, adapters=[6], domains=[6])
    with pytest.raises(SysfsError) as refused:
        target[0].write(target[1], stream[64:])
    assert refused.value.errno == errno.EADDRINUSE
    assert there.matrix(A) == []


def test_m11_remove_waits_for_the_guest_and_the_write_gives_it_its_queues_back() -> None:
    here, there = source(), host()
    session, file = resuming(there)
    there.control.obey("vm", False)
    remove = there.start(f"{MATRIX}/{A}/remove", "1")
    assert outcome(remove) == "blocks"
    session.write(file, stream_of(here))
    assert there.kernel.guests["vm"].adapters == 1 << 5 | 1 << 6
    there.control.stop_guest("vm")
    assert outcome(remove) == "blocks", "C2: the data file pins the device"
    session.close(file)
    assert outcome(remove) == "ok"


def test_c2_the_log_when_only_a_data_file_is_open() -> None:
    there = host()
    session, file = resuming(there)
    there.control.stop_guest("vm")
    there.mark()
    remove = there.start(f"{MATRIX}/{A}/remove", "1")
    there.kernel.advance(25)
    assert there.log == [f"vfio_ap_mdev {A}: No device request registered, blocked until released by user"]
    session.close(file)
    assert outcome(remove) == "ok"


def test_c4_a_configuration_once_applied_stays() -> None:
    here, there = source(), host()
    there.assign(A, adapters=[4], domains=[6])
    session, file = resuming(there)
    session.write(file, stream_of(here))
    there.control.stop_guest("vm")
    assert there.matrix(A) == ["05.0004", "05.0006", "06.0004", "06.0006"]


@pytest.mark.parametrize(("code", "number"), [(1, errno.ENODEV), (6, errno.EIO)])
def test_k1_k2_a_target_queue_without_tapq(code: int, number: int) -> None:
    here, there = source(), host()
    there.control.answer(5, 4, code)
    moved = move(here, there)
    assert moved.errno == number
    assert moved.log == (f"vfio_ap_mdev {A}: Failed to get hwinfo for queue 05.0004: TAPQ rc={code}",)


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_k3_to_k6_these_answers_are_good_enough(code: int) -> None:
    here, there = source(), host()
    there.control.answer(5, 4, code)
    assert move(here, there).ok


def test_k7_k8_asynchronous_answers_and_the_last_bad_one() -> None:
    here, there = source(), host()
    there.control.answer(5, 4, 0x41, asynchronous=True)
    assert move(here, there).ok
    here, there = source(), host()
    there.control.answer(5, 4, 6)
    there.control.answer(5, 6, 1)
    moved = move(here, there)
    assert moved.errno == errno.ENODEV
    assert [line[-9:] for line in moved.log] == ["TAPQ rc=6", "TAPQ rc=1"]


def test_k11_the_source_can_read_again_later() -> None:
    here = source()
    session = Session(here.control, A)
    file = session.set_state(State.STOP_COPY)
    assert file is not None
    here.control.answer(5, 4, 1)
    with pytest.raises(SysfsError) as refused:
        session.read(file)
    assert refused.value.errno == errno.ENODEV
    here.control.answer(5, 4, None)
    assert len(session.read_all(file)) == 112


@pytest.mark.parametrize("stopped", ["deconfigure", "checkstop"])
@pytest.mark.parametrize("side", [0, 1])
def test_q7_to_q9_adapters_that_do_not_work_move_too(stopped: str, side: int) -> None:
    hosts = source(), host()
    getattr(hosts[side].control, stopped)(5)
    assert move(*hosts).ok


def test_q12_a_stream_that_is_no_product_takes_queues_that_nobody_checked() -> None:
    def taken(prepare: str | None) -> tuple[int | None, Lpar]:
        here, there = source(), host()
        stream = stream_of(here)
        if prepare == "driverless":
            there.write(f"{BUS}/drivers/vfio_ap/unbind", "06.0004")
        elif prepare == "host":
            there.apmask("+0-255,-5")
            there.aqmask("-6")
            assert there.driver("06.0004") == "cex4queue"
        session, file = resuming(there)
        holey = stream[:8] + (2).to_bytes(4, "big") + stream[12:64] + stream[96:112]
        try:
            session.write(file, holey)
        except SysfsError as error:
            return error.errno, there
        return None, there

    assert taken(None)[1].matrix(A) == ["05.0004", "05.0006", "06.0004", "06.0006"]
    number, there = taken("driverless")
    assert number is None and there.guest_matrix(A) == ["05.0004", "05.0006"], "Q12b: 06.0006 is lost silently"
    number, there = taken("host")
    assert number == errno.EADDRNOTAVAIL and there.matrix(A) == []


def test_q13_ten_lines_of_a_burst() -> None:
    here, there = source(usageDomains="0-10"), host(usageDomains="0-10")
    for domain in (*range(4), *range(5, 11)):
        here.mdev(A, "assign_domain", domain)
    there.apmask("+0-255")
    moved = move(here, there)
    assert len(moved.log) == 10
    there.kernel.advance(6)
    moved = move(here, there)
    assert moved.log[0] == "queues_available: 12 callbacks suppressed"


def test_d1_a_write_longer_than_announced_overwrites_memory_and_says_nothing() -> None:
    here, there = source(), host()
    session, file = resuming(there)
    assert session.write(file, stream_of(here) + bytes(16)) == 128
    assert there.matrix(A) == []
    assert there.kernel.hazards == [f"{A}: 16 bytes of a stream written behind its buffer"]


def test_d2_a_second_stream_that_announces_more_reads_behind_the_buffer() -> None:
    here, there = source(), host()
    stream = stream_of(here)
    session, file = resuming(there)
    session.write(file, stream)
    session.set_state(State.STOP)
    file = session.set_state(State.RESUMING)
    assert file is not None
    there.mark()
    with pytest.raises(SysfsError) as refused:
        session.write(file, stream[:8] + (5).to_bytes(4, "big") + stream[12:])
    assert refused.value.errno == errno.ENODEV
    assert there.log == [f"vfio_ap_mdev {A}: Queue cc.00cc not available to vfio_ap driver on target host"]


def test_w1_one_writer_at_a_time() -> None:
    here, there = source(), host()
    there.assign(A, adapters=[4], domains=[6])
    there.control.reset_time(100)
    _, file = resuming(there)
    clock = there.kernel.clock
    first = clock.spawn(file.write(stream_of(here)))
    assert not first.done, "the replaced queues are reset inside the write"
    second = clock.spawn(file.write(b"more"))
    there.kernel.advance(1)
    assert first.result() == 112
    with pytest.raises(SysfsError) as refused:
        second.result()
    assert refused.value.errno in (errno.EBUSY, errno.EIO)


def test_z2_replaced_queues_cost_the_guest_their_resets() -> None:
    here, there = source(), host()
    there.assign(A, adapters=[4], domains=[6])
    there.control.reset_time(3000)
    began = there.kernel.seconds
    moved = move(here, there)
    assert moved.ok
    assert 3.0 <= there.kernel.seconds - began < 3.3
    assert moved.log[0] == "Waited 20ms for reset of queue 04.0006 (2, 0, 0)"


def stream_of(here: Lpar) -> bytes:
    """Read a source's stream and let its guest run on."""
    session = Session(here.control, A)
    file = session.set_state(State.STOP_COPY)
    assert file is not None
    stream = session.read_all(file)
    session.set_state(State.RUNNING)
    return stream


def resuming(there: Lpar) -> tuple[Session, object]:
    """Open the target's device and bring it to RESUMING."""
    there.control.start_guest("vm", A)
    session = Session(there.control, A)
    file = session.set_state(State.RESUMING)
    assert file is not None
    return session, file
