"""The planner: order of steps, what is refused and in which words, and what refusals do not block."""

from dataclasses import replace

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.host.handover import settle
from vfio_ap.host.masks import HostMasks
from vfio_ap.host.plan import assignments, plan_host
from vfio_ap.host.view import Holder, HostView, KernelView, MdevView, QueueView
from vfio_ap.host.wish import (
    Adopt,
    Assign,
    Configure,
    Create,
    EditMask,
    Ours,
    Override,
    Probe,
    Remove,
    Unbind,
    WantedMdev,
    Wish,
)
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix

A, B, C = (f"{c * 8}-0000-4000-8000-000000000000" for c in "abc")
EVERY = IdSet.every()


def matrix(adapters, domains, control=""):
    return Matrix(IdSet.parse(adapters), IdSet.parse(domains), IdSet.parse(control))


def host(*mdevs, out=("", ""), present=("4-6", "4-6"), **kernel):
    """A host whose masks lack ``out`` and whose queues are bound accordingly."""
    masks = HostMasks(EVERY - IdSet.parse(out[0]), EVERY - IdSet.parse(out[1]))
    here = matrix(*present)
    queues = {q: QueueView("cex4queue" if masks.reserves(q) else "vfio_ap", "") for q in here}
    view = KernelView(vfio_ap=True, ap_config=True, queue_control="Masks", max_adapter=255, max_domain=84)
    kernel_view = replace(view, **kernel)
    return HostView(
        kernel=kernel_view, present=here, masks=masks, queues=queues, mdevs={mdev.uuid: mdev for mdev in mdevs}
    )


def mdev(uuid, adapters, domains, *, used=False, holders=()):
    held = matrix(adapters, domains)
    holders = (Holder(7, "qemu"),) if used else holders
    return MdevView(uuid, held, held, "0", holders, tuple(held)[:1] if used else ())


def wish(*items, reserved=(), **more):
    wanted = [WantedMdev(uuid, "m", matrix(*ids)) for uuid, *ids in items]
    return Wish(tuple(wanted), tuple(matrix(*ids) for ids in reserved), **more)


def ours(*items, bits=("", "")):
    return Ours(matrix(*bits), {uuid: matrix(*ids) for uuid, *ids in items})


def kinds(plan):
    return [type(step).__name__ for step in plan.steps]


def test_removal_first_then_masks_then_devices_then_masks_back():
    view = host(mdev(A, "5", "4-6"), out=("5", ""))
    plan = plan_host(view, wish((B, "6", "4-6")), ours((A, "5", "4-6"), bits=("5", "")))
    assert plan.steps[0] == Remove(A)
    assert [(type(s).__name__, getattr(s, "text", "")) for s in plan.steps[1:]] == [
        ("EditMask", "-6"), ("Create", ""), ("Configure", ""), ("EditMask", "+5"),
    ]  # fmt: skip


def test_nothing_to_do_is_no_step():
    view = host(mdev(A, "5", "4-6"), out=("5", ""))
    assert plan_host(view, wish((A, "5", "4-6")), ours((A, "5", "4-6"), bits=("5", ""))).steps == ()


def test_bits_that_others_cleared_stay_cleared():
    view = host(out=("4,5", ""))
    plan = plan_host(view, wish(), ours(bits=("5", "")))
    assert [step.text for step in plan.steps] == ["+5"]


def test_a_foreign_device_is_never_touched_and_its_queues_stay_out():
    view = host(mdev(C, "4", "4-6"), out=("4", ""))
    plan = plan_host(view, wish((A, "5", "4")), ours(bits=("4", "")))
    assert all(getattr(step, "uuid", A) == A for step in plan.steps)
    assert not any(isinstance(step, EditMask) and not step.release for step in plan.steps)


def test_overlap_with_a_foreign_device_is_refused_by_name_and_blocks_nobody_else():
    view = host(mdev(C, "4", "4-6"), out=("4", ""))
    plan = plan_host(view, wish((A, "4-5", "5"), (B, "6", "4")), ours())
    assert plan.refusals[A] == Refusal(
        "QueueTaken", "04.0005", f"is in foreign mdev {C}", "take the queue out of one of the two"
    )
    assert B in {getattr(step, "uuid", "") for step in plan.steps}


def test_adoption_only_when_asked_for_and_only_when_equal():
    view = host(mdev(A, "5", "4"), out=("5", ""))
    assert plan_host(view, wish((A, "5", "4")), ours()).refusals[A].reason == "ForeignMdev"
    equal = Wish((WantedMdev(A, "m", matrix("5", "4"), adopt=True),))
    assert plan_host(view, equal, ours()).steps == (Adopt(A, matrix("5", "4")),)
    other = Wish((WantedMdev(A, "m", matrix("5", "4", "4"), adopt=True),))
    plan = plan_host(view, other, ours())
    assert plan.refusals[A].reason == "AdoptionDiffers"
    assert plan.steps == ()


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (mdev(A, "5", "4", used=True), "InUse"),
        (mdev(A, "5", "4", holders=None), "IdlenessUnproven"),
        (replace(mdev(A, "5", "4"), queues_in_use=(Apqn(5, 4),)), "InUse"),
    ],
)
def test_nothing_is_removed_that_is_not_proven_idle(device, reason):
    plan = plan_host(host(device, out=("5", "")), wish(), ours((A, "5", "4"), bits=("5", "")))
    assert plan.steps == ()
    assert plan.refusals[A].reason == reason


def test_an_unreadable_part_of_the_wish_removes_nothing():
    refusal = Refusal("SpecInvalid", "spec.mdevs[0]", "is not a mapping")
    view = host(mdev(A, "5", "4"), out=("5", ""))
    plan = plan_host(view, wish(incomplete=refusal), ours((A, "5", "4"), bits=("5", "")))
    assert plan.steps == ()
    assert plan.refusals[A] == refusal


def test_reserved_queues_choose_the_other_mask_or_refuse():
    view = host()
    plan = plan_host(view, wish((A, "5", "4"), reserved=[("5", "6")]), ours())
    assert [step.text for step in plan.steps if isinstance(step, EditMask)] == ["-4"]
    plan = plan_host(view, wish((A, "5", "4"), (B, "6", "6"), reserved=[("5", "6"), ("4", "4")]), ours())
    assert plan.refusals[A].reason == "HostReserved"
    assert B not in plan.refusals
    assert Create(B) in plan.steps


def test_ids_above_the_maximum_are_refused_and_absent_ones_are_not():
    plan = plan_host(host(), wish((A, "5", "85"), (B, "5", "84")), ours())
    assert plan.refusals[A].reason == "IdAboveMaximum"
    assert Create(B) in plan.steps


def test_a_running_guest_grows_only_once_its_new_queues_are_with_vfio_ap():
    using = mdev(A, "5", "4", used=True)
    view = host(using, out=("5", ""))
    plan = plan_host(view, wish((A, "5-6", "4")), ours((A, "5", "4"), bits=("5", "")))
    assert kinds(plan) == ["EditMask", "Configure"]  # the guest's own adapter keeps all its queues
    view = host(using, out=("", "4"))
    plan = plan_host(view, wish((A, "5", "4-5")), ours((A, "5", "4"), bits=("", "4")))
    assert kinds(plan) == ["EditMask"]  # 05.0005 is the host's still: configuring now would take adapter 5 away
    assert plan.waiting == {A}


def test_a_change_that_would_filter_an_adapter_of_a_running_guest_is_refused():
    view = host(mdev(A, "5", "4", used=True), out=("5", ""))
    view = replace(view, queues={**view.queues, Apqn(5, 5): QueueView("")})
    plan = plan_host(view, wish((A, "5", "4-5")), ours((A, "5", "4"), bits=("5", "")))
    assert plan.refusals[A].reason == "WouldFilter"
    assert plan.refusals[A].subject == "05.0005"
    assert not any(isinstance(step, Configure) for step in plan.steps)


def test_a_foreign_change_under_a_guest_is_not_repaired_and_told_changes_are_made():
    view = host(mdev(A, "5", "4-5", used=True), out=("5,6", ""))
    plan = plan_host(view, wish((A, "5", "4")), ours((A, "5", "4")))
    assert plan.refusals[A].reason == "ForeignChange"
    plan = plan_host(view, wish((A, "5", "4")), ours((A, "5", "4-5")))
    assert plan.steps == (Configure(A, matrix("5", "4")),)
    plan = plan_host(view, wish((A, "6", "4")), ours((A, "5", "4")))
    assert plan.refusals[A].reason == "ForeignChange"
    assert "05.0005" in plan.refusals[A].message
    idle = host(mdev(A, "5", "4-5"), out=("5", ""))
    assert plan_host(idle, wish((A, "5", "4")), ours((A, "5", "4"))).steps == (Configure(A, matrix("5", "4")),)


def test_queues_pass_from_one_device_to_another_in_order():
    view = host(mdev(A, "5", "4-5"), mdev(B, "6", "4"), out=("5,6", ""))
    plan = plan_host(view, wish((A, "5", "4"), (B, "5-6", "5")), ours((A, "5", "4-5"), (B, "6", "4")))
    assert [step.uuid for step in plan.steps] == [A, B]


def test_a_ring_of_exchanges_is_opened_at_an_idle_device_and_refused_where_there_is_none():
    books = ours((A, "5", "4"), (B, "6", "4"))
    swapped = wish((A, "6", "4"), (B, "5", "4"))
    view = host(mdev(A, "5", "4"), mdev(B, "6", "4", used=True), out=("5,6", ""))
    plan = plan_host(view, swapped, books)
    assert [(step.uuid, str(step.matrix.adapters)) for step in plan.steps] == [(A, ""), (B, "5"), (A, "6")]
    view = host(mdev(A, "5", "4", used=True), mdev(B, "6", "4", used=True), out=("5,6", ""))
    assert plan_host(view, swapped, books).refusals[A].reason == "Exchange"


def test_single_assignments_stay_within_old_or_new():
    old, new = matrix("4,5", "4,5", "4"), matrix("5,6", "5,6", "6")
    steps = assignments(A, old, new)
    assert [step.file for step in steps] == [
        "unassign_adapter", "unassign_domain", "unassign_control_domain",
        "assign_adapter", "assign_domain", "assign_control_domain",
    ]  # fmt: skip
    assert steps[-1].leads_to == new
    for step in steps:
        assert set(step.leads_to) <= set(old) or set(step.leads_to) <= set(new)


def test_without_ap_config_single_writes_and_no_more_queues_than_can_be_shown():
    view = host(ap_config=False)
    plan = plan_host(view, wish((A, "5", "4"), (B, "0-7", "0-79")), ours())
    assert [type(step) for step in plan.steps] == [EditMask, Create, Assign, Assign]
    assert plan.refusals[B].reason == "TooManyQueues"


def test_nothing_is_changed_without_the_driver_or_with_an_unreadable_device():
    plan = plan_host(host(vfio_ap=False), wish((A, "5", "4")), ours())
    assert (plan.steps, plan.refusals[A].reason) == ((), "DriverNotLoaded")
    unreadable = MdevView(C, None)
    plan = plan_host(host(unreadable), wish((A, "5", "4")), ours())
    assert (plan.steps, plan.refusals[A].reason) == ((), "MatrixUnreadable")


def test_a_leaving_device_keeps_its_uuid_and_its_queues():
    leaving = MdevView(A, None, leaving=True)
    plan = plan_host(
        host(leaving, out=("5", "")), wish((A, "5", "4"), (B, "5", "4")), ours((A, "5", "4"), bits=("5", ""))
    )
    assert plan.refusals[A].reason == "Leaving"
    assert plan.refusals[B].reason == "QueueTaken"
    assert plan.steps == ()


def override_host(*mdevs, **queues):
    view = host(*mdevs, queue_control="DriverOverride")
    changed = {Apqn.parse(name.replace("q", "").replace("_", ".")): QueueView(*q) for name, q in queues.items()}
    return replace(
        view, queues={**view.queues, **{q: replace(s, override=s.status, status="") for q, s in changed.items()}}
    )


def test_an_override_is_written_then_the_queue_unbound_and_probed_and_no_other_leaves():
    plan = plan_host(override_host(), wish((A, "5", "4")), ours())
    queue = Apqn(5, 4)
    assert plan.steps == (
        Override(queue, "vfio_ap"), Unbind(queue, "cex4queue"), Probe(queue),
        Create(A), Configure(A, matrix("5", "4")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("driver", "override", "steps"),
    [
        ("cex4queue", "vfio_ap", ["Unbind", "Probe"]),
        ("", "vfio_ap", ["Probe"]),
        ("vfio_ap", "vfio_ap", []),
        ("vfio_ap", "", ["Override"]),
    ],
)
def test_an_interrupted_handover_is_taken_up_where_it_stands(driver, override, steps):
    view = override_host(q05_0004=(driver, override))
    assert kinds(plan_host(view, wish((A, "5", "4")), ours())) == [*steps, "Create", "Configure"]


def test_what_cannot_come_by_override_is_refused_alone_and_by_name():
    view = override_host(q06_0005=("cex4queue", "mine"))
    plan = plan_host(view, wish((A, "4,9", "4"), (B, "6", "5"), (C, "5", "4")), ours())
    assert (plan.refusals[A].reason, plan.refusals[A].subject) == ("QueueAbsent", "09.0004")
    assert (plan.refusals[B].reason, plan.refusals[B].subject) == ("ForeignOverride", "06.0005")
    assert {step.uuid for step in plan.steps if isinstance(step, Create)} == {C}


def test_our_overrides_go_back_unbound_first_and_only_when_no_device_has_the_queue():
    bound = ("vfio_ap", "vfio_ap")
    view = override_host(mdev(C, "6", "4"), q05_0004=bound, q05_0005=bound, q06_0004=bound)
    books = replace(ours(), overrides=frozenset({Apqn(5, 4), Apqn(6, 4)}))
    queue = Apqn(5, 4)
    assert plan_host(view, wish(), books).steps == (
        Unbind(queue, "vfio_ap"), Override(queue, ""), Probe(queue, "cex4queue"),
    )  # fmt: skip


def test_who_is_asked_for_a_mode_and_who_is_not():
    fresh = host(driver_override=True)
    modes = [settle(fresh, ours(), told).kernel.queue_control for told in ("auto", "masks", "override")]
    assert modes == ["Masks", "Masks", "DriverOverride"]
    masked = host(out=("5", ""), driver_override=True)
    assert settle(masked, ours(), "override").kernel.queue_control == "Masks"
    overridden = host(queue_control="DriverOverride", driver_override=True)
    assert settle(overridden, ours(), "masks").kernel.queue_control == "DriverOverride"
    half_back = replace(ours(), overrides=frozenset({Apqn(5, 4)}))
    assert settle(fresh, half_back, "auto").kernel.queue_control == "DriverOverride"
    old = settle(host(), ours(), "override")
    assert plan_host(old, wish((A, "5", "4")), ours()).refusals[A].reason == "QueueControlUnknown"


def test_a_running_guest_waits_for_a_queue_that_comes_by_override():
    bound = ("vfio_ap", "vfio_ap")
    view = override_host(mdev(A, "5", "4", used=True), q05_0004=bound)
    plan = plan_host(view, wish((A, "5", "4-5")), ours((A, "5", "4")))
    assert kinds(plan) == ["Override", "Unbind", "Probe"]
    assert plan.waiting == {A}


def test_a_wanted_queue_that_found_no_driver_is_offered_to_vfio_ap():
    view = host(mdev(A, "5", "4"), out=("5", ""))
    view = replace(view, queues={**view.queues, Apqn(5, 4): QueueView("")})
    assert plan_host(view, wish((A, "5", "4")), ours((A, "5", "4"), bits=("5", ""))).steps == (Probe(Apqn(5, 4)),)


def test_what_was_set_aside_is_left_alone():
    aside = {A: Refusal("SysfsTimeout", A, "did not come back")}
    plan = plan_host(host(mdev(A, "5", "4"), out=("5", "")), wish((B, "6", "4")), ours((A, "5", "4")), aside)
    assert all(getattr(step, "uuid", B) == B for step in plan.steps)
    assert plan.refusals[A].reason == "SysfsTimeout"
