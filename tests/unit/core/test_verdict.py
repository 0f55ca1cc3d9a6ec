"""Whether a VM can move between two nodes: the kernel's table row by row (kernel-ap.md 4.3), and what is ours."""

import dataclasses

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.fleet.verdict import GuestFacts, Mode, MovePolicy, Reason, verdict
from vfio_ap.fleet.views import Card, Desired, HeldMdev, KeySet, KeyUse, MatrixView, NodeView, Variant
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

CONFIG = Matrix(IdSet.of(5), IdSet.of(4, 171), IdSet.of(4))
PAY = MatrixView("pay", "u1", CONFIG)
WORD = 0x93800000  # APSC, CCA, APXA, command filtering, full
KEYS = KeySet((("AES CUR", "0xaa"), ("APKA CUR", "0xbb"), ("ASYM CUR", "0xcc")))
EVERY = Matrix(IdSet.every(), IdSet.every(), IdSet.every())
SOURCE = NodeView(
    "a",
    alive=True,
    max_adapter=255,
    max_domain=255,
    present=EVERY,
    cards={5: Card("CEX7C", WORD)},
    keys={5: (KeyUse(IdSet.every(), KEYS),)},
    live="v4",
    machine="IBM-3931-1",
    mdevs={"u1": HeldMdev("u1", CONFIG, "Ready", in_use=True)},
)
TARGET = dataclasses.replace(
    SOURCE, name="b", machine="IBM-3931-2", mdevs={"u1": HeldMdev("u1", CONFIG, "Ready", offered=True)}
)
BARE = dataclasses.replace(TARGET, mdevs={})
BLIND = Refusal("SysfsTimeout", "b", "/sys/bus/ap/apmask: did not answer within 10 s")
ALL = MovePolicy((Mode.LIVE, Mode.REATTACH, Mode.RESTART))


def with_card(node, functions=WORD, kind="CEX7C", **more):
    return dataclasses.replace(node, cards={5: Card(kind, functions, **more)})


def v1(node):
    return dataclasses.replace(node, live="v1")


def with_keys(node, *uses):
    return dataclasses.replace(node, keys={5: uses})


def patterns(**changed):
    told = dict(KEYS.patterns) | {name.replace("_", " "): value for name, value in changed.items()}
    return KeySet(tuple(sorted((name, value) for name, value in told.items() if value)))


def held(node, **more):
    return dataclasses.replace(node, mdevs={"u1": dataclasses.replace(node.mdevs["u1"], **more)})


def codes(found):
    return [refusal.reason for refusal in found.refusals]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (SOURCE, TARGET),
        (SOURCE, with_card(TARGET, kind="CEX8C")),
        (with_card(SOURCE, WORD & ~0x00800000 | 0x00400000), TARGET),
        (v1(SOURCE), v1(TARGET)),
        (v1(SOURCE), v1(with_card(TARGET, kind="CEX8C"))),
        (with_card(SOURCE, WORD ^ 1), TARGET),
        (v1(with_card(SOURCE, WORD ^ 1)), v1(TARGET)),
    ],
)
def test_equal_or_better_is_fine(source, target):
    found = verdict(PAY, source, target)
    assert (found.node, found.mode, found.refusals, found.warnings) == ("b", Mode.LIVE, (), ())


@pytest.mark.parametrize("change", [lambda node: node, v1])
@pytest.mark.parametrize("bit", [0x80000000, 0x40000000, 0x20000000, 0x02000000, 0x01000000])
def test_each_facility_must_be_equal_both_ways(bit, change):
    for one, other, words in (
        (WORD | bit, WORD & ~bit, "installed on a, not installed on b"),
        (WORD & ~bit, WORD | bit, "not installed on a, installed on b"),
    ):
        found = verdict(PAY, change(with_card(SOURCE, one)), change(with_card(TARGET, other)))
        assert codes(found) == ["FacilityDiffers", "ModeNotAllowed"]
        assert found.modes == ()
        assert found.refusals[0].subject == "queue 05.0004"
        assert words in found.refusals[0].message
        assert "(and 1 more queue)" in found.refusals[0].message


@pytest.mark.parametrize(
    ("functions", "kind", "words"),
    [
        (0x87800000, "CEX7P", "mode: CCA on a, EP11 on b"),
        (0x8B800000, "CEX7A", "mode: CCA on a, accelerator on b"),
    ],
)
def test_another_mode_of_adapter_is_no_use_after_a_restart_either(functions, kind, words):
    found = verdict(PAY, SOURCE, with_card(TARGET, functions, kind), ALL)
    assert found.modes == ()
    assert (found.refusals[0].reason, words in found.refusals[0].message) == ("ModeDiffers", True)


STATELESS = WORD & ~0x00800000 | 0x00400000


@pytest.mark.parametrize(
    ("source", "target", "reason", "words"),
    [
        (SOURCE, with_card(TARGET, STATELESS), "ClassDiffers", "class: full on a, stateless on b"),
        (SOURCE, with_card(TARGET, WORD & ~0x00800000), "ClassDiffers", "class: full on a, none on b"),
        (v1(with_card(SOURCE, STATELESS)), v1(TARGET), "ClassDiffers", "class: stateless on a, full on b"),
        (
            v1(with_card(SOURCE, WORD ^ 1)),
            v1(with_card(TARGET, kind="CEX8C")),
            "FacilityWordDiffers",
            "0x93800001",
        ),
        (with_card(SOURCE, kind="CEX8C"), TARGET, "AdapterOlder", "CEX8C on a, CEX7C on b"),
        (v1(with_card(SOURCE, kind="CEX8C")), v1(TARGET), "AdapterOlder", "CEX8C on a, CEX7C on b"),
        (SOURCE, with_card(TARGET, bound=IdSet.of(171)), "QueueBound", "bind or associate state on b"),
        (SOURCE, with_card(TARGET, kind=""), "HardwareUnknown", "unknown on b"),
        (SOURCE, with_card(TARGET, None), "HardwareUnknown", "on b is not known"),
        (with_card(SOURCE, None), TARGET, "HardwareUnknown", "on a is not known"),
        (dataclasses.replace(SOURCE, live="no"), TARGET, "KernelCannotMigrate", "LIVE is no"),
        (SOURCE, dataclasses.replace(TARGET, live="unknown"), "KernelCannotMigrate", "LIVE is unknown"),
        (v1(SOURCE), TARGET, "MigrationVersionsDiffer", "migrates by v4, that of a by v1"),
        (
            SOURCE,
            dataclasses.replace(TARGET, present=Matrix(IdSet.every(), IdSet.every(), IdSet.of(6))),
            "ControlDomainAbsent",
            "the guest on a controls domains 4, b has not",
        ),
        (
            v1(SOURCE),
            dataclasses.replace(v1(TARGET), present=Matrix(IdSet.every(), IdSet.every(), IdSet.of(6))),
            "ControlDomainAbsent",
            "the guest on a controls domains 4, b has not",
        ),
        (held(SOURCE, guest=Matrix()), TARGET, "NothingInGuest", "none of its queues"),
        (held(SOURCE, state="Incomplete"), TARGET, "GuestMatrixUnknown", "not known"),
        (held(SOURCE, state="Foreign"), TARGET, "SourceDeviceUnknown", "somebody else's on a"),
        (dataclasses.replace(SOURCE, mdevs={}), TARGET, "SourceDeviceUnknown", "is not shown on a"),
        (
            held(SOURCE, guest=Matrix(IdSet.of(5, 6), IdSet.of(4))),
            dataclasses.replace(TARGET, cards={5: Card("CEX7C", WORD), 6: Card("CEX7C", WORD)}),
            "SourceDiffers",
            "adapters 5-6 x domains 4",
        ),
        (
            SOURCE,
            held(TARGET, guest=Matrix(IdSet.of(5), IdSet.of(4))),
            "QueueNotInDevice",
            "is in the guest on a, and not in its device on b",
        ),
        (
            v1(held(SOURCE, guest=Matrix(IdSet.of(5), IdSet.of(4)))),
            v1(TARGET),
            "GuestMatrixDiffers",
            "adapters 5 x domains 4 on a; the device has adapters 5 x domains 4,171 on b",
        ),
    ],
)
def test_what_closes_a_live_move_names_both_sides_and_leaves_a_restart(source, target, reason, words):
    found = verdict(PAY, source, target, ALL)
    assert found.refusals[0].reason == reason
    assert words in found.refusals[0].message
    assert found.refusals[0].remedy
    assert found.modes == (Mode.REATTACH, Mode.RESTART)


@pytest.mark.parametrize(
    ("matrix", "source", "target", "reason", "words"),
    [
        (dataclasses.replace(PAY, uuid=""), SOURCE, TARGET, "MatrixRefused", "no UUID"),
        (dataclasses.replace(PAY, deleting=True), SOURCE, TARGET, "MatrixRefused", "deleted"),
        (
            dataclasses.replace(PAY, invalid=Refusal("NotAnId", "pay", "makes no sense")),
            SOURCE,
            TARGET,
            "MatrixRefused",
            "makes no sense",
        ),
        (PAY, SOURCE, SOURCE, "RunsThere", "runs there now"),
        (PAY, SOURCE, dataclasses.replace(TARGET, alive=False), "NodeSilent", "does not answer"),
        (PAY, dataclasses.replace(SOURCE, alive=False), TARGET, "NodeSilent", "does not answer"),
        (PAY, SOURCE, dataclasses.replace(TARGET, unready=BLIND), "NodeNotReady", "apmask: did not answer"),
        (PAY, dataclasses.replace(SOURCE, unready=BLIND), TARGET, "NodeNotReady", "apmask: did not answer"),
        (PAY, SOURCE, dataclasses.replace(TARGET, max_adapter=None), "NotReported", "not reported"),
        (dataclasses.replace(PAY, selector={"zone": "e"}), SOURCE, TARGET, "NotSelected", "nodeSelector"),
        (PAY, SOURCE, dataclasses.replace(TARGET, max_domain=84), "IdAboveMaximum", "domain 171 is above"),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, present=Matrix(IdSet.of(6), IdSet.every(), IdSet.every())),
            "QueueAbsent",
            "is not on b, which has no adapters 5",
        ),
        (
            PAY,
            SOURCE,
            with_card(TARGET, domains=IdSet.of(4)),
            "QueueAbsent",
            "is not on b, whose adapter 5 has no queues for domains 171",
        ),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, machine=SOURCE.machine),
            "PairOfAnotherLpar",
            "a and b are LPARs of machine IBM-3931-1",
        ),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, machine=SOURCE.machine, present=Matrix()),
            "PairOfAnotherLpar",
            "a pair of adapter and domain belongs to one of them",
        ),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, reserved=(Matrix(IdSet.every(), IdSet.of(171)),)),
            "HostReserved",
            "is reserved for the host on b",
        ),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, desired=(Desired("u2", "other", CONFIG),)),
            "QueueInOtherMatrix",
            "is in APMatrix other on b, and so is 1 more queue",
        ),
        (
            PAY,
            SOURCE,
            dataclasses.replace(TARGET, mdevs=TARGET.mdevs | {"u3": HeldMdev("u3", CONFIG, "Foreign")}),
            "QueueInOtherDevice",
            "is in mdev u3 on b",
        ),
        (PAY, SOURCE, held(TARGET, state="Foreign"), "DeviceForeign", "somebody else made it"),
        (PAY, SOURCE, held(TARGET, in_use=True), "DeviceInUse", "a guest on b uses it"),
        (PAY, SOURCE, held(TARGET, state="Failed", message="EBUSY"), "DeviceFailed", "is Failed on b: EBUSY"),
        (PAY, SOURCE, held(TARGET, state="Incomplete"), "DeviceFailed", "is Incomplete on b"),
        (PAY, SOURCE, BARE, "DeviceAbsent", "is not on b"),
        (
            PAY,
            SOURCE,
            with_card(TARGET, state="Checkstopped"),
            "AdapterNotWorking",
            "Checkstopped on b and Online",
        ),
        (PAY, SOURCE, with_card(TARGET, state="Unknown"), "AdapterNotWorking", "Unknown on b"),
    ],
)
def test_what_the_target_lacks_closes_every_mode(matrix, source, target, reason, words):
    found = verdict(matrix, source, target, ALL)
    assert found.modes == ()
    assert found.refusals[0].reason == reason
    assert words in found.refusals[0].message
    assert found.refusals[0].remedy
    assert "ModeNotAllowed" not in codes(found)


def test_a_target_without_a_device_is_asked_again_when_it_has_one():
    unknown = dataclasses.replace(BARE, live="unknown")
    assert verdict(PAY, SOURCE, unknown, prepared=False).mode is Mode.LIVE
    assert codes(verdict(PAY, SOURCE, unknown)) == ["DeviceAbsent", "KernelCannotMigrate"]
    making = dataclasses.replace(unknown, mdevs={"u1": HeldMdev("u1", CONFIG, "Pending")})
    assert verdict(PAY, SOURCE, making, prepared=False).mode is Mode.LIVE
    assert codes(verdict(PAY, SOURCE, making))[0] == "DevicePending"
    unsure = dataclasses.replace(SOURCE, live="unknown")
    assert codes(verdict(PAY, unsure, unknown, prepared=False))[0] == "KernelCannotMigrate"


def test_the_device_that_is_to_be_adopted_is_not_in_the_way():
    adopting = dataclasses.replace(PAY, adopt=True)
    assert verdict(adopting, SOURCE, held(TARGET, state="Foreign"), prepared=False).mode is Mode.LIVE
    other = held(TARGET, state="Foreign", configuration=Matrix(IdSet.of(9), IdSet.of(4)))
    assert codes(verdict(adopting, SOURCE, other, prepared=False)) == ["DeviceForeign"]


def test_matrices_that_are_on_their_way_to_the_target_count():
    other = MatrixView("other", "u2", Matrix(IdSet.of(5), IdSet.of(171)))
    found = verdict(PAY, SOURCE, TARGET, others=[PAY, other])
    assert codes(found) == ["QueueInOtherMatrix"]
    assert found.refusals[0].subject == "queue 05.00ab"
    with_device = dataclasses.replace(TARGET, mdevs=TARGET.mdevs | {"u2": HeldMdev("u2", other.matrix, "Ready")})
    assert codes(verdict(PAY, SOURCE, with_device, others=[other])) == ["QueueInOtherMatrix"], "told once"


def test_under_the_first_version_a_target_is_made_with_what_the_guest_has():
    guest = Matrix(IdSet.of(5), IdSet.of(4))
    bare = dataclasses.replace(v1(BARE), live="unknown")
    assert verdict(PAY, v1(SOURCE), bare, prepared=False).mode is Mode.LIVE
    assert verdict(PAY, v1(held(SOURCE, guest=guest)), bare, prepared=False).mode is Mode.LIVE
    found = verdict(PAY, v1(held(SOURCE, guest=guest)), v1(TARGET))
    assert codes(found)[0] == "GuestMatrixDiffers", "made with more than that, it must be made anew"
    assert verdict(PAY, held(SOURCE, guest=guest), BARE, prepared=False).mode is Mode.LIVE


def test_what_is_kept_from_the_guest_need_not_be_on_the_target():
    guest = Matrix(IdSet.of(5), IdSet.of(4), IdSet.of(4))
    narrow = dataclasses.replace(TARGET, present=Matrix(IdSet.of(5), IdSet.of(4), IdSet.of(4)))
    found = verdict(PAY, held(SOURCE, guest=guest), narrow)
    assert found.mode is Mode.LIVE
    two = dataclasses.replace(PAY, matrix=Matrix(IdSet.of(5, 6), IdSet.of(4)))
    filtered = dataclasses.replace(SOURCE, mdevs={"u1": HeldMdev("u1", two.matrix, "Incomplete", guest=guest)})
    found = verdict(two, filtered, BARE, prepared=False)
    assert found.mode is Mode.LIVE
    assert found.warnings[0].reason == "SourceFiltered"
    assert "adapters 6 are kept from the guest on a" in found.warnings[0].message


def test_a_dead_adapter_on_both_sides_is_only_a_warning():
    dead = {"state": "Deconfigured"}
    found = verdict(PAY, with_card(SOURCE, **dead), with_card(TARGET, **dead))
    assert found.mode is Mode.LIVE
    assert [warning.reason for warning in found.warnings] == ["AdapterNotWorking"]
    assert verdict(PAY, with_card(SOURCE, **dead), TARGET).warnings == ()
    assert verdict(PAY, SOURCE, with_card(TARGET, state="Offline")).mode is Mode.LIVE, "the host's own business"


@pytest.mark.parametrize(
    ("guest", "modes", "reason"),
    [
        (GuestFacts(secure_execution=True), (Mode.RESTART,), "SecureExecution"),
        (GuestFacts(post_copy=True), (Mode.REATTACH, Mode.RESTART), "PostCopy"),
    ],
)
def test_guests_that_do_not_migrate(guest, modes, reason):
    found = verdict(PAY, SOURCE, TARGET, ALL, guest)
    assert (found.modes, codes(found)) == (modes, [reason])


def test_the_policys_order_of_modes_is_kept_and_what_it_forbids_is_named():
    source = dataclasses.replace(SOURCE, live="no")
    found = verdict(PAY, source, TARGET, MovePolicy((Mode.RESTART, Mode.LIVE)))
    assert (found.mode, codes(found)) == (Mode.RESTART, ["KernelCannotMigrate"])
    assert verdict(PAY, source, TARGET, MovePolicy((Mode.RESTART,))).refusals == ()
    found = verdict(PAY, source, TARGET)
    assert (found.mode, codes(found)) == (None, ["KernelCannotMigrate", "ModeNotAllowed"])
    assert "Reattach or Restart" in found.refusals[1].message
    assert codes(verdict(PAY, SOURCE, TARGET, MovePolicy((Mode.LIVE,), "Same"))) == []
    newer = verdict(PAY, SOURCE, with_card(TARGET, kind="CEX8C"), MovePolicy((Mode.LIVE,), "Same"))
    assert codes(newer)[0] == "AdapterTypeDiffers"


def test_reasons_come_in_the_order_of_the_table():
    bad = with_card(
        dataclasses.replace(BARE, live="no", max_domain=100, keys={}, machine=SOURCE.machine), 0x87800000, "CEX6P"
    )
    found = codes(verdict(PAY, SOURCE, bad, MovePolicy(master_keys="Require")))
    order = [reason.name for reason in Reason]
    assert found == sorted(found, key=order.index)
    assert found[:2] == ["IdAboveMaximum", "PairOfAnotherLpar"]
    assert found[-1] == "OpModesUnknown"


REQUIRE = MovePolicy(tuple(Mode), master_keys="Require")
OTHER = patterns(AES_CUR="0xee")


@pytest.mark.parametrize(
    ("mine", "yours", "reason", "words"),
    [
        (KEYS, OTHER, "KeysDiffer", "AES CUR differs: 0xaa on a, 0xee on b"),
        (
            KEYS,
            patterns(AES_CUR="0xee", AES_OLD="0xaa"),
            "KeysDiffer",
            "0xaa is AES OLD there: the key was changed",
        ),
        (KEYS, patterns(AES_CUR="0xee", AES_NEW="0xaa"), "KeysDiffer", "0xaa is AES NEW there: not yet set"),
        (KEYS, patterns(APKA_CUR=""), "KeysUnknown", "APKA CUR on b is not known"),
        (patterns(ASYM_CUR=""), KEYS, "KeysUnknown", "ASYM CUR on a is not known"),
        (None, KEYS, "KeysUnknown", "master keys on a are not known"),
        (KEYS, None, "KeysUnknown", "master keys on b are not known"),
    ],
)
def test_current_keys_must_be_known_and_equal_where_the_policy_requires_it(mine, yours, reason, words):
    source = with_keys(SOURCE, *[KeyUse(IdSet.every(), keys) for keys in (mine,) if keys])
    target = with_keys(TARGET, *[KeyUse(IdSet.every(), keys) for keys in (yours,) if keys])
    found = verdict(PAY, source, target, REQUIRE)
    assert (found.modes, codes(found)) == ((), [reason])
    assert words in found.refusals[0].message
    warned = verdict(PAY, source, target)
    assert warned.mode is Mode.LIVE
    assert [warning.reason for warning in warned.warnings] == [reason]
    assert verdict(PAY, source, target, MovePolicy(master_keys="Ignore")).warnings == ()


def test_keys_are_compared_queue_by_queue():
    source = with_keys(SOURCE, KeyUse(IdSet.of(4), KEYS), KeyUse(IdSet.of(171), OTHER))
    assert verdict(PAY, source, dataclasses.replace(TARGET, keys=source.keys), REQUIRE).mode is Mode.LIVE
    found = verdict(PAY, source, TARGET, REQUIRE)
    assert [refusal.subject for refusal in found.refusals] == ["queue 05.00ab"]
    elsewhere = with_keys(TARGET, KeyUse(IdSet.of(4, 171), KEYS), KeyUse(IdSet.of(9), OTHER))
    assert verdict(PAY, SOURCE, elsewhere, REQUIRE).mode is Mode.LIVE, "domain 9 is nobody's concern"


def test_what_was_sampled_or_attested_is_told():
    source = with_keys(SOURCE, KeyUse(IdSet.every(), KEYS, sampled="2026-01-01T00:00:00Z"))
    found = verdict(PAY, source, TARGET, REQUIRE)
    assert found.mode is Mode.LIVE
    assert [warning.reason for warning in found.warnings] == ["KeysSampled"]
    assert "2026-01-01" in found.warnings[0].message
    assert verdict(PAY, source, TARGET).warnings == ()
    attested = with_keys(TARGET, KeyUse(IdSet.every(), dataclasses.replace(OTHER, attested=True)))
    assert "0xee on b (attested)" in verdict(PAY, source, attested).warnings[0].message


def test_a_key_change_under_way_is_a_warning():
    mine, yours = patterns(AES_OLD="0x11", AES_NEW="empty"), patterns(AES_OLD="invalid", AES_NEW="0x22")
    found = verdict(
        PAY,
        with_keys(SOURCE, KeyUse(IdSet.every(), mine)),
        with_keys(TARGET, KeyUse(IdSet.every(), yours)),
        REQUIRE,
    )
    assert found.mode is Mode.LIVE
    assert [warning.reason for warning in found.warnings] == ["KeysInChange", "KeysInChange"]
    back = verdict(
        PAY,
        with_keys(SOURCE, KeyUse(IdSet.every(), yours)),
        with_keys(TARGET, KeyUse(IdSet.every(), mine)),
        REQUIRE,
    )
    assert "AES NEW" in back.warnings[0].message, "an old key that only the target has hurts nobody"
    assert len(back.warnings) == 1


def test_expected_keys_stand_for_the_sources():
    expecting = dataclasses.replace(PAY, expected={"AES CUR": "0xee", "WK CUR": "0x99"})
    good = with_keys(TARGET, KeyUse(IdSet.every(), OTHER))
    assert verdict(expecting, SOURCE, good, REQUIRE).mode is Mode.LIVE
    found = verdict(expecting, SOURCE, TARGET, REQUIRE)
    assert codes(found) == ["KeysUnexpected"]
    assert "0xee expected, 0xaa on b" in found.refusals[0].message
    silent = with_keys(TARGET, KeyUse(IdSet.every(), patterns(AES_CUR="")))
    assert codes(verdict(expecting, SOURCE, silent, REQUIRE)) == ["KeysUnknown"]


EP11 = 0x87800000
WK = KeySet((("WK CUR", "0x1"),))


def ep11(node, *modes, told=()):
    card = Card("CEX8P", EP11, op_modes=modes)
    return dataclasses.replace(
        node, cards={5: card}, keys={5: (KeyUse(IdSet.every(), dataclasses.replace(WK, op_modes=told)),)}
    )


def test_ep11_operation_modes():
    source = ep11(SOURCE, "FIPS2009")
    assert verdict(PAY, source, ep11(TARGET, "FIPS2009"), REQUIRE).mode is Mode.LIVE
    differing = verdict(PAY, source, ep11(TARGET, "FIPS2011"), ALL)
    assert (codes(differing), differing.mode) == (["OpModesDiffer"], Mode.REATTACH)
    assert "FIPS2009 on a, FIPS2011 on b" in differing.refusals[0].message
    assert verdict(PAY, source, ep11(TARGET, "FIPS2011", told=("FIPS2009",))).mode is Mode.LIVE
    unknown = verdict(PAY, source, ep11(TARGET))
    assert [warning.reason for warning in unknown.warnings] == ["OpModesUnknown"]
    assert codes(verdict(PAY, source, ep11(TARGET), REQUIRE)) == ["OpModesUnknown"]


def test_different_kernels_are_a_warning():
    other = dataclasses.replace(TARGET, release="7.4")
    assert verdict(PAY, SOURCE, other).warnings == ()
    found = verdict(PAY, dataclasses.replace(SOURCE, release="7.3"), other)
    assert (found.mode, [warning.reason for warning in found.warnings]) == (Mode.LIVE, ["KernelsDiffer"])


VARIED = dataclasses.replace(
    PAY, variants=(Variant(Matrix(IdSet.of(9), IdSet.of(4, 171)), machines=frozenset({"IBM-3931-2"})),)
)


def test_a_variant_is_reached_by_reattach_and_restart_only():
    there = dataclasses.replace(
        BARE, cards={9: Card("CEX6C", WORD)}, keys={9: (KeyUse(IdSet.every(), KEYS),)}, live="no"
    )
    found = verdict(VARIED, SOURCE, there, ALL, prepared=False)
    assert found.modes == (Mode.REATTACH, Mode.RESTART)
    assert codes(found) == ["KernelCannotMigrate", "OtherVariant"]
    assert "adapters 5 x domains 4,171 on a, adapters 9 x domains 4,171 on b" in found.refusals[1].message
    absent = dataclasses.replace(there, present=CONFIG)
    assert codes(verdict(VARIED, SOURCE, absent, ALL, prepared=False))[0] == "QueueAbsent"


def test_a_variants_keys_must_be_some_that_the_guest_has():
    there = dataclasses.replace(BARE, cards={9: Card("CEX7C", WORD)}, keys={9: (KeyUse(IdSet.every(), KEYS),)})
    allowed = MovePolicy((Mode.RESTART,), master_keys="Require")
    assert verdict(VARIED, SOURCE, there, allowed, prepared=False).mode is Mode.RESTART
    other = dataclasses.replace(there, keys={9: (KeyUse(IdSet.every(), OTHER),)})
    assert codes(verdict(VARIED, SOURCE, other, allowed, prepared=False)) == ["KeysDiffer"]
    blind = dataclasses.replace(SOURCE, keys={})
    assert codes(verdict(VARIED, blind, there, allowed, prepared=False)) == ["KeysUnknown"]
    assert codes(verdict(VARIED, SOURCE, dataclasses.replace(there, keys={}), allowed, prepared=False)) == [
        "KeysUnknown"
    ]


def test_lpars_of_one_machine_may_share_a_matrix_by_a_variant():
    there = dataclasses.replace(
        BARE, machine=SOURCE.machine, labels={"row": "b"}, cards={9: Card("CEX7C", WORD)}, keys={}
    )
    source = dataclasses.replace(SOURCE, present=CONFIG)
    varied = dataclasses.replace(PAY, variants=(Variant(Matrix(IdSet.of(9), IdSet.of(4)), selector={"row": "b"}),))
    assert verdict(varied, source, there, MovePolicy((Mode.RESTART,)), prepared=False).mode is Mode.RESTART
