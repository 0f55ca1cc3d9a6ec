"""A VirtualMachine that could never start is refused when it is written."""

import json
import shlex

import pytest

from vfio_ap_sim.controlplane import CommandFailedError

from ..support import until
from .objects import CARDS, MATRIX, PAYMENTS, RESOURCE, UUID, made, vm

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (vm(space="shop"), "namespace shop may not use matrix payments: APMatrix.spec.allowedNamespaces does not"),
        (vm({MATRIX: "secret"}), "namespace bank may not use matrix secret"),
        (vm({MATRIX: ""}), "namespace bank may not use matrix :"),
        (vm({MATRIX: "payments", UUID: CARDS}), f"says {CARDS}, but matrix payments is {PAYMENTS}"),
        (vm({UUID: PAYMENTS}), "but there is no annotation ap.s390x.io/matrix"),
        (vm({}, resources={"limits": {RESOURCE: "1"}}), "ask for an AP matrix with the annotation"),
        (
            vm(devices={"hostDevices": [{"name": "a", "deviceName": RESOURCE}]}),
            "cannot be one of hostDevices or gpus",
        ),
        (
            vm({}, devices={"gpus": [{"name": "a", "deviceName": RESOURCE}]}),
            "cannot be one of hostDevices or gpus",
        ),
    ],
)
def test_a_vm_that_could_never_start_is_refused_with_what_to_do(editor, document, said):
    assert said in editor.refused(document)


@pytest.mark.parametrize("document", [vm(), vm({MATRIX: "payments", UUID: PAYMENTS}), vm({}, space="shop")])
def test_a_vm_that_could_start_is_left_as_it_is(editor, document):
    found = made(editor, document)["spec"]["template"]["metadata"].get("annotations", {})
    assert found == document["spec"]["template"]["metadata"]["annotations"]


@pytest.fixture
def stopped(admin, editor):
    """A VM that asks for cards, in a namespace that has lost its permission since."""
    editor.create(vm({MATRIX: "cards"}))
    yield
    admin.kubectl("delete", "vm", "one", "-n", "bank", "--timeout=60s")


def change(annotations):
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    return ("patch", "vm", "one", "-n", "bank", "--type=merge", "-p", json.dumps(patch))


def test_a_cpu_is_judged_when_it_is_changed_and_not_with_every_edit(admin, editor, stopped):
    """What was written before the CPU was looked at can be edited, and not be made worse."""

    def with_cpu(**cpu):
        return ("patch", "vm", "one", "-n", "bank", "--type=merge", "-p", spec({"domain": {"cpu": cpu}}))

    assert "CPU model z15 comes without the features" in editor.refusal(*with_cpu(model="z15"))
    policy = admin.get("validatingadmissionpolicybinding", "vfio-ap-vms")
    admin.kubectl("delete", "validatingadmissionpolicybinding", "vfio-ap-vms")
    try:
        until(lambda: _made(editor, vm(space="shop")), "not judged")
        editor.kubectl(*with_cpu(model="z15"))
    finally:
        for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            policy["metadata"].pop(key, None)
        admin.create(policy)
        until(lambda: not _made(editor, vm(space="shop")), "judged again")
    editor.kubectl(*change({"team": "blue"}))
    assert "CPU model z14 comes without" in editor.refusal(*with_cpu(model="z14"))


def spec(change):
    return json.dumps({"spec": {"template": {"spec": change}}})


def test_a_matrix_is_changed_to_one_that_is_allowed_only(editor, stopped):
    editor.kubectl(*change({MATRIX: "payments"}))
    assert "may not use matrix secret" in editor.refusal(*change({MATRIX: "secret"}))


def test_a_vm_whose_permission_was_withdrawn_can_still_be_edited(operator, editor, stopped):
    operator.kubectl("label", "namespace", "bank", "use.ap.s390x.io/cards-")
    try:
        until(lambda: not _made(editor, vm({MATRIX: "cards"}, name="two")), "permission withdrawn")
        editor.kubectl(*change({"team": "blue"}))
        editor.kubectl("label", "vm", "one", "-n", "bank", "team=blue")
    finally:
        operator.kubectl("label", "namespace", "bank", f"use.ap.s390x.io/cards={CARDS}")
        until(lambda: _made(editor, vm({MATRIX: "cards"}, name="two")), "permission back")


def test_a_feature_gate_that_is_off_is_said_with_the_patch_that_works(admin, editor):
    before = admin.get("kubevirt", "kubevirt", "-n", "kubevirt")["spec"]["configuration"]["developerConfiguration"]
    gates(admin, ["Mine", "Sidecar"])
    try:
        until(lambda: not _made(editor, vm()), "the gate is off")
        said = editor.refused(vm())
        assert "needs the KubeVirt feature gates ReservedOverheadMemlock, which are off" in said
        made(editor, vm({}))  # others do not need it
        command = shlex.split(said[said.index("kubectl patch") :])
        admin.kubectl(*command[1:])
        until(lambda: _made(editor, vm()), "the gate is on")
        now = admin.get("kubevirt", "kubevirt", "-n", "kubevirt")["spec"]["configuration"][
            "developerConfiguration"
        ]
        assert now["featureGates"] == ["Mine", "Sidecar", "ReservedOverheadMemlock"]
    finally:
        gates(admin, before["featureGates"])
        until(lambda: _made(editor, vm()), "as before")


def test_the_administrator_s_word_counts_for_more_than_the_feature_gates(admin, editor):
    before = admin.get("kubevirt", "kubevirt", "-n", "kubevirt")["spec"]["configuration"]["developerConfiguration"]
    override = ("annotate", "kubevirt", "kubevirt", "-n", "kubevirt")
    gates(admin, [])
    try:
        until(lambda: not _made(editor, vm()), "the gates are off")
        admin.kubectl(*override, "ap.s390x.io/skip-kubevirt-check=true")
        until(lambda: _made(editor, vm()), "the check is overridden")
    finally:
        admin.kubectl(*override, "ap.s390x.io/skip-kubevirt-check-")
        gates(admin, before["featureGates"])
        until(lambda: _made(editor, vm()), "as before")


def gates(admin, names):
    patch = {"spec": {"configuration": {"developerConfiguration": {"featureGates": names}}}}
    admin.kubectl("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", json.dumps(patch))


def _made(editor, document):
    try:
        made(editor, document)
    except CommandFailedError:
        return False
    return True
