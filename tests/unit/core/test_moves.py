"""How a move stands, from KubeVirt's phase, the target pod, the gate's plan and what was read back."""

import dataclasses

import pytest

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer
from vfio_ap.fleet.evacuation import Evacuation, VmView
from vfio_ap.fleet.gate import GIVEN_UP, GatePlan, Release, Situation, Wait
from vfio_ap.fleet.moves import (
    MigrationView,
    MoveStatus,
    MoveView,
    Surroundings,
    asked,
    begun,
    followed,
    lingering,
    refused,
    restarted,
)
from vfio_ap.fleet.policy import PolicyView
from vfio_ap.fleet.views import Desired, HeldMdev
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix

from .test_gate import CONFIG, PAY, TARGET, node, ready

VM = VmView("bank", "ledger", "vmi1", "pay", "n1", migratable=True)
MOVE = MoveView("bank", "away", "u1", "ledger")
STATUS = MoveStatus(phase="Preparing", matrix="pay", uuid="u1", source="n1", migration="mig", migration_uid="m1")
MIGRATION = MigrationView("bank", "mig", "m1", "ledger", phase="Scheduling")
FEWER = Matrix(IdSet.of(5), IdSet.of(7))


def follow(
    migration,
    *,
    pods=(),
    waits=(),
    actions=(),
    nodes=(),
    vm=VM,
    fresh=False,
    patient=False,
    status=STATUS,
    matrix=PAY,
):
    plan = GatePlan(waits=tuple(waits), actions=tuple(actions))
    around = Surroundings(matrix, plan, tuple(pods), {n.name: n for n in nodes}, vm, fresh, patient)
    return followed(status, migration, around)


def wait(pod, reason, text="because"):
    return Wait(pod, Refusal(reason, "node n2", text))


def test_a_migration_that_was_there_first_is_taken_over():
    status = begun(MOVE, dataclasses.replace(MIGRATION, asked_by="workload update"), PAY, VM)
    assert (status.source, status.migration_uid, status.asked_by) == ("n1", "m1", "workload update")


@pytest.mark.parametrize(
    ("pod", "reason", "phase"),
    [
        (None, "", "Waiting"),
        (TARGET, "NotAllocatable", "Preparing"),
        (TARGET, "NoNode", "Waiting"),
        (dataclasses.replace(TARGET, gated=False, node="n2"), "Freezing", "Holding"),
        (dataclasses.replace(TARGET, gated=False, held=False, node="n2"), "", "Moving"),
    ],
)
def test_each_phase_follows_from_the_target_pod_and_its_wait(pod, reason, phase):
    waits = [wait(pod, reason)] if reason else []
    status = follow(MIGRATION, pods=[pod] if pod else [], waits=waits)
    assert status.phase == phase
    assert (status.refusal.reason if status.refusal else "") == reason
    if reason:
        assert "because" in status.line


def test_while_it_moves_kubevirts_phase_and_the_devices_states_are_in_one_line():
    pod = dataclasses.replace(TARGET, gated=False, held=False, node="n2")
    status = follow(dataclasses.replace(MIGRATION, phase="Running"), pods=[pod])
    assert "from n1 to n2: KubeVirt Running" in status.line
    assert "STOP_COPY" in status.line


def arrived(configuration=CONFIG, guest=CONFIG, meant=CONFIG, **more):
    mdev = HeldMdev("u1", configuration, "Ready", in_use=True, guest=guest)
    desired = (Desired("u1", "pay", meant, granted=True, frozen=True),)
    return ready("n2", mdevs={"u1": mdev}, desired=desired, **more)


DONE = dataclasses.replace(MIGRATION, phase="Succeeded", target="n2")


def test_a_move_is_no_success_before_the_targets_kernel_was_read_back():
    status = follow(DONE, nodes=[arrived()])
    assert (status.phase, status.target) == ("Moving", "n2")
    assert "read back" in status.line
    assert follow(DONE, nodes=[arrived()], fresh=True).phase == "Succeeded"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (arrived(FEWER), "NotAsMeant"),
        (arrived(guest=FEWER), "FilteredAway"),
        (arrived(guest=None), "FilteredAway"),
        (node("n2"), "DeviceGone"),
    ],
)
def test_a_device_that_is_not_as_meant_after_a_move_is_an_alarm(target, reason):
    status = follow(DONE, nodes=[target], fresh=True)
    assert (status.phase, status.refusal.reason) == ("Alarm", reason)
    assert status.over


WHOLE = Matrix(IdSet.of(5), IdSet.of(4, 7))


def test_what_the_guest_had_is_noted_before_its_hold_is_lifted():
    source = ready("n1", mdevs={"u1": HeldMdev("u1", WHOLE, "Ready", in_use=True, guest=CONFIG)})
    pod = dataclasses.replace(TARGET, gated=False, node="n2")
    status = follow(MIGRATION, pods=[pod], actions=[Release(pod)], nodes=[source])
    assert (status.phase, status.guest) == ("Moving", CONFIG)
    let_go = dataclasses.replace(pod, held=False)
    changed = ready("n1", mdevs={"u1": HeldMdev("u1", WHOLE, "Ready", in_use=True, guest=FEWER)})
    assert follow(MIGRATION, pods=[let_go], nodes=[changed], status=status).guest == CONFIG


def test_a_move_of_a_guest_that_had_less_than_its_matrix_is_a_success_that_says_so():
    """The device is made, or taken over (L-11), as the guest had it, and gets the rest after."""
    whole = dataclasses.replace(PAY, matrix=WHOLE)
    moving = dataclasses.replace(MOVING, guest=CONFIG)
    status = follow(DONE, nodes=[arrived()], fresh=True, status=moving, matrix=whole)
    assert status.phase == "Succeeded"
    assert f"as meant, {CONFIG}, as the guest had it; the rest of the matrix follows now" in status.line
    complete = follow(DONE, nodes=[arrived(WHOLE, WHOLE, WHOLE)], fresh=True, status=moving, matrix=whole)
    assert (complete.phase, complete.line) == ("Succeeded", "moved from n1 to n2; device as meant")


@pytest.mark.parametrize("there", [CONFIG, WHOLE])
def test_a_guest_that_has_less_than_when_it_left_is_an_alarm(there):
    moving = dataclasses.replace(MOVING, guest=WHOLE)
    assert follow(DONE, nodes=[arrived(there, CONFIG, WHOLE)], fresh=True, status=moving).phase == "Alarm"


def test_ids_that_no_machine_has_yet_do_not_make_a_move_an_alarm():
    """Over-provisioning: the device holds them in advance, the guest has what there is (K-2)."""
    moving = dataclasses.replace(MOVING, guest=CONFIG)
    status = follow(DONE, nodes=[arrived(WHOLE, CONFIG, WHOLE)], fresh=True, status=moving)
    assert status.phase == "Succeeded"


def test_a_failure_keeps_what_kubevirt_said_and_where_the_vm_is():
    failed = dataclasses.replace(MIGRATION, phase="Failed", failure="qemu said no")
    status = follow(failed)
    assert (status.phase, status.refusal.reason) == ("Failed", "MigrationFailed")
    assert "qemu said no" in status.line
    assert "the VM is on n1" in status.line
    later = dataclasses.replace(MIGRATION, phase="Failed")
    assert "libvirt said no" in follow(later, vm=dataclasses.replace(VM, failure="libvirt said no")).line


@pytest.mark.parametrize("migration", [None, dataclasses.replace(MIGRATION, phase="Failed")])
def test_what_the_operator_gave_up_says_so_and_not_what_kubevirt_made_of_it(migration):
    given_up = dataclasses.replace(STATUS, refusal=Refusal(GIVEN_UP, "", "could not begin within 300 s"))
    assert follow(migration, status=given_up).refusal.reason == GIVEN_UP


def test_a_migration_that_somebody_deleted_is_cancelled_unless_the_vm_has_arrived():
    assert follow(None).refusal.reason == "Cancelled"
    there = dataclasses.replace(VM, node="n2")
    assert follow(None, vm=there, nodes=[arrived()], fresh=True).phase == "Succeeded"


def test_a_dry_run_says_where_it_could_go_and_moves_nothing():
    dry = dataclasses.replace(MOVE, dry_run=True)
    answers = (Answer("n2"), Answer("n3", Refusal("X", "n3", "no")))
    status = asked(dry, PAY, VM, Evacuation(frozenset({"n2"}), start="n2", answers=answers))
    assert (status.phase, status.line, status.target) == ("Checked", "can move to n2", "")
    nowhere = Evacuation(wait=Refusal("NoTarget", "VM", "no node can take it"), answers=answers[1:])
    status = asked(dry, PAY, VM, nowhere)
    assert (status.phase, status.refusal.reason) == ("Checked", "NoTarget")


def test_a_request_that_can_succeed_nowhere_is_refused_and_an_evacuation_waits():
    nowhere = Evacuation(wait=Refusal("NoTarget", "VM", "no node can take it"))
    assert asked(MOVE, PAY, VM, nowhere).phase == "Refused"
    drained = dataclasses.replace(MOVE, status=MoveStatus(asked_by="evacuation"))
    assert asked(drained, PAY, VM, nowhere).phase == "Waiting"
    preparing = Evacuation(frozenset({"n2"}), wait=Refusal("Preparing", "node n2", "the device is being made"))
    assert (asked(MOVE, PAY, VM, preparing).phase, asked(MOVE, PAY, VM, preparing).target) == ("Preparing", "n2")


def test_a_request_that_makes_no_sense_is_refused_with_its_reason():
    status = refused(MOVE, Refusal("NoMatrix", "VM bank/ledger", "it has no matrix"))
    assert (status.phase, status.over) == ("Refused", True)
    assert "it has no matrix" in status.line


def test_a_source_keeps_its_device_as_long_as_the_policy_says_and_never_gets_it_back():
    moved = dataclasses.replace(VM, node="n2")
    done = dataclasses.replace(MOVE, status=dataclasses.replace(STATUS, phase="Succeeded"))

    def kept(source, seconds=60.0, **waited):
        nodes = {"n1": source, "n2": arrived()}
        situation = Situation(PAY, None, nodes, PolicyView(keep_source=seconds), waited=waited.get("waited", {}))
        return lingering(situation, moved, [done])

    first = kept(ready("n1"))
    assert (first.prepare, first.patience) == ({"n1"}, 60)
    later = kept(ready("n1"), waited={("u1", "n1"): 60.0})
    assert (later.prepare, later.timed) == (frozenset(), {("u1", "n1")})
    assert kept(node("n1")).prepare == frozenset()
    assert kept(ready("n1"), seconds=0).timed == frozenset()


def test_a_failure_that_is_known_has_its_reason_and_remedy_and_keeps_its_words():
    said = "operation failed: guest unexpectedly quit: error while loading state section id 3 (vfio-ap)"
    status = follow(dataclasses.replace(MIGRATION, phase="Failed", failure=said))
    assert status.refusal.reason not in ("MigrationFailed", "")
    assert said in status.refusal.message
    assert status.refusal.remedy


ERRNO = "operation failed: load of migration failed: Invalid argument"
DIFFERS = (
    "vfio_ap_mdev u1: Migration failed: Source and target queue (05.0004) not compatible",
    "vfio_ap_mdev u1: APSC facility installed in source queue 05.0004",
)
REFUSED = dataclasses.replace(MIGRATION, phase="Failed", failure=ERRNO, target="n2")
MOVING = dataclasses.replace(STATUS, phase="Moving", target="n2")


def test_a_failed_move_has_the_reason_that_the_target_s_kernel_gave():
    """The errno says that some queue differs in something; the log says which and in what (kernel-ap.md 4.2)."""
    target = arrived(kernel_log={"u1": DIFFERS, "other": ("vfio_ap_mdev other: no",)})
    status = follow(REFUSED, nodes=[target], fresh=True, patient=True, status=MOVING)
    assert (status.phase, status.refusal.reason) == ("Failed", "FacilityDiffers")
    message = status.refusal.message
    assert "queue 05.0004" in message
    assert "installed on the source, not installed on the target" in message
    assert ERRNO in message
    assert DIFFERS[0] in message
    assert "other: no" not in message
    assert status.refusal.remedy


def test_a_failed_move_waits_for_the_target_s_kernel_as_long_as_that_can_answer():
    silent = arrived()
    asking = follow(REFUSED, nodes=[silent], patient=True, status=MOVING)
    assert (asking.phase, asking.over) == ("Moving", False)
    assert "the kernel of n2 is asked why" in asking.line
    for late in (
        follow(REFUSED, nodes=[silent], status=MOVING),
        follow(REFUSED, nodes=[silent], fresh=True, patient=True, status=MOVING),
    ):
        assert (late.phase, late.refusal.reason) == ("Failed", "QueueNotCompatible")


def test_a_move_that_never_began_is_not_explained_by_what_the_kernel_said_of_an_earlier_one():
    target = arrived(kernel_log={"u1": DIFFERS})
    early = dataclasses.replace(REFUSED, failure="the pod did not start")
    status = follow(early, nodes=[target], patient=True, status=dataclasses.replace(MOVING, phase="Holding"))
    assert (status.phase, status.refusal.reason) == ("Failed", "MigrationFailed")
    assert "05.0004" not in status.line


def test_a_move_is_on_its_way_before_its_hold_is_lifted():
    """So that one that fails at once is known to have begun, also by an operator that was killed in between."""
    pod = dataclasses.replace(TARGET, gated=False, node="n2")
    assert follow(MIGRATION, pods=[pod], actions=[Release(pod)]).phase == "Moving"
    other = dataclasses.replace(pod, uid="another")
    assert follow(MIGRATION, pods=[pod], actions=[Release(other)]).phase == "Holding"


def test_a_request_waits_where_a_node_only_does_not_answer_now():
    answers = (
        Answer("n2", Refusal("NodeSilent", "n2", "it does not answer")),
        Answer("n3", Refusal("X", "n3", "no")),
    )
    nowhere = Evacuation(wait=Refusal("NoTarget", "VM", "no node can take it"), answers=answers)
    assert asked(MOVE, PAY, VM, nowhere).phase == "Waiting"
    assert asked(MOVE, PAY, VM, dataclasses.replace(nowhere, answers=answers[1:])).phase == "Refused"


@pytest.mark.parametrize(
    ("phase", "handed"), [("", False), ("Scheduling", False), ("Scheduled", True), ("Running", True)]
)
def test_what_kubevirt_has_handed_over_is_no_longer_ours_to_cancel(phase, handed):
    assert dataclasses.replace(MIGRATION, phase=phase).handed_over is handed


def test_a_pinned_target_s_pod_does_not_replace_what_was_said_of_the_other_nodes():
    """KubeVirt pins the pod of a migration that is ours, and then every other node only lacks the label."""
    said = (Answer("n2"), Answer("n3", Refusal("ModeDiffers", "n3", "EP11 there")))
    pinned = (Answer("n2"), Answer("n3", Refusal("NotSchedulable", "n3", "no label")))
    status = dataclasses.replace(STATUS, answers=said)
    around = Surroundings(PAY, GatePlan(answers=pinned), (TARGET,), {}, VM)
    assert followed(status, dataclasses.replace(MIGRATION, move="away"), around).answers == said
    assert followed(status, MIGRATION, around).answers == pinned


RESTARTING = dataclasses.replace(STATUS, phase="Restarting", mode="Restart", target="n2", instance="vmi1")
THERE = dataclasses.replace(VM, uid="vmi2", node="n2")


def restart(vm, *, pods=(), waits=(), fresh=False, patient=True):
    plan = GatePlan(waits=tuple(waits))
    nodes = {"n2": arrived()}
    return restarted(RESTARTING, Surroundings(PAY, plan, tuple(pods), nodes, vm, fresh, patient))


def test_a_vm_that_may_be_restarted_is_asked_for_once_its_target_is_ready_and_its_move_says_which_instance_goes():
    step = Evacuation(frozenset({"n2"}), start="n2", mode="Restart")
    status = asked(MOVE, PAY, VM, step)
    assert (status.phase, status.mode, status.instance, status.target) == ("Restarting", "Restart", "vmi1", "n2")
    waiting = dataclasses.replace(step, start="", wait=Refusal("Preparing", "node n2", "the device is being made"))
    assert asked(MOVE, PAY, VM, waiting).phase == "Preparing"


def test_a_restart_is_followed_from_one_instance_to_the_next():
    assert restart(VM).line == "it stops on n1"
    assert restart(None).line == "it has stopped; it is to start on n2"
    new = dataclasses.replace(TARGET, owner="vmi2", migration="", uid="p3")
    waits = [wait(new, "NotAllocatable", "kubelet does not publish the resource yet")]
    assert restart(None, pods=[new], waits=waits).refusal.reason == "NotAllocatable"
    assert restart(THERE).phase == "Restarting"
    assert "read back" in restart(THERE).line
    done = restart(THERE, fresh=True)
    assert (done.phase, done.line) == ("Succeeded", "moved from n1 to n2; device as meant")


def test_a_restart_that_ends_elsewhere_or_never_has_failed():
    elsewhere = restart(dataclasses.replace(THERE, node="n3"), fresh=True)
    assert (elsewhere.phase, elsewhere.refusal.reason) == ("Failed", "StartedElsewhere")
    late = restart(None, patient=False)
    assert (late.phase, late.refusal.reason) == ("Failed", "RestartTooLong")
    assert "it has stopped" in late.line


def test_a_dry_run_says_how_where_that_is_not_live():
    dry = dataclasses.replace(MOVE, dry_run=True)
    answers = (Answer("n2", mode="Live"), Answer("n3", mode="Restart"))
    assert asked(dry, PAY, VM, Evacuation(answers=answers)).line == "can move to n2, n3 (by Restart)"
