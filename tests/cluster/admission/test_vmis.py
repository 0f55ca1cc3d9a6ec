"""What a VM with a matrix gets, and what of it nobody may ask for or change otherwise."""

import copy
import json

import pytest

from vfio_ap_sim.controlplane import CommandFailedError

from ..support import until
from .objects import CARDS, ENTRY, HOLD, HOOKS, MATRIX, PAYMENTS, RESOURCE, UUID, made, vm, vmi, without

pytestmark = pytest.mark.cluster

USERS = '{"image":"user/side:1","args":["a","]"]}'
NOT_THERE = ": APMatrix.spec.allowedNamespaces does not name it, or the matrix does not exist or is refused"
FROZEN = (
    "annotations ap.s390x.io/matrix, ap.s390x.io/uuid and hooks.kubevirt.io/hookSidecars cannot change while the "
    "VM runs"
)
RESOURCES = (
    "ask for an AP matrix with the annotation ap.s390x.io/matrix on the VirtualMachine's template, not with"
)
DEVICES = "an AP matrix cannot be one of hostDevices or gpus"
OWN = "the vfio-ap sidecar is added by admission: take it out of annotation hooks.kubevirt.io/hookSidecars"
NO_LIST = "the vfio-ap sidecar cannot be added to annotation hooks.kubevirt.io/hookSidecars: it is not a JSON list"


ALL = ("ap", "apqci", "apft", "apqi")


def cpu(model=None, **policies):
    """Return a CPU with features; a policy that is empty is left out."""
    features = [{"name": n, **({"policy": p} if p else {})} for n, p in policies.items()]
    return {"cpu": ({"features": features} if features else {}) | ({"model": model} if model else {})}


def hooks(text):
    return {MATRIX: "payments", HOOKS: text}


def injected(document, *, added="1Gi", others=""):
    """Assert that a VMI has everything for payments, once."""
    annotations, spec = document["metadata"]["annotations"], document["spec"]
    assert annotations[MATRIX] == "payments"
    assert annotations[UUID] == PAYMENTS
    assert document["metadata"]["labels"][MATRIX] == "payments"
    assert annotations[HOOKS] == f"[{others}{ENTRY}]"
    assert spec["evictionStrategy"] == "External"
    resources = spec["domain"]["resources"]
    assert resources["limits"][RESOURCE] == resources["requests"][RESOURCE] == "1"
    assert spec["domain"]["memory"]["reservedOverhead"] == {"memLock": "Required", "addedOverhead": added}


@pytest.fixture
def running(admin, editor):
    """A VMI that exists."""
    editor.create(vmi())
    yield
    admin.kubectl("delete", "vmi", "one", "-n", "bank", "--timeout=60s")


# --- what is added


def test_a_vm_of_the_template_s_annotation_gets_everything_and_its_pod_waits_at_the_gate(admin, editor):
    document = vm(hooks(f"[{USERS}]"), name="ledger")
    document["spec"]["runStrategy"] = "Always"
    editor.create(document)
    try:
        for kind in ("vmi/ledger", "pods"):
            select = ("-l", "vm.kubevirt.io/name=ledger") if kind == "pods" else ()
            admin.kubectl("wait", "--for=create", kind, *select, "-n", "bank", "--timeout=60s")
        injected(admin.get("vmi", "ledger", "-n", "bank"), others=f"{USERS},")
        assert UUID not in json.dumps(admin.get("vm", "ledger", "-n", "bank"))
        (pod,) = admin.get("pods", "-n", "bank", "-l", "vm.kubevirt.io/name=ledger")["items"]
        assert pod["spec"]["schedulingGates"] == [{"name": "ap.s390x.io/placement"}]
        assert pod["metadata"]["labels"][MATRIX] == "payments"
        images = [c["image"] for c in pod["spec"]["containers"][1:]]
        assert images == ["user/side:1", "vfio-ap-hook:0.1.0"]
        assert HOLD not in pod["metadata"]["annotations"]
        assert not any("readinessProbe" in c for c in pod["spec"]["containers"])
        request = pod["spec"]["containers"][0]["resources"]["requests"]["memory"]
        assert int(request.removesuffix("Mi")) > 1024 + 128
    finally:
        admin.kubectl("delete", "vm", "ledger", "-n", "bank", "--timeout=60s")


@pytest.mark.parametrize(
    "domain",
    [
        {},
        {"resources": {"limits": {"cpu": "2"}}},
        {"resources": {"requests": {"memory": "256Mi"}}},
        {"resources": {"limits": {RESOURCE: "3"}, "requests": {RESOURCE: "3"}}},
        {"memory": {"guest": "1Gi", "reservedOverhead": {"memLock": "NotRequired"}}},
    ],
    ids=str,
)
def test_what_the_vmi_has_already_is_kept_beside_what_is_added(editor, domain):
    found = made(editor, vmi(**domain))
    injected(found)
    for kind, wanted in domain.get("resources", {}).items():
        others = {name: count for name, count in wanted.items() if name != RESOURCE}
        assert others.items() <= found["spec"]["domain"]["resources"][kind].items()
    assert found["spec"]["domain"]["memory"]["guest"] == domain.get("memory", {}).get("guest", "128Mi")


def test_a_vmi_without_resources_and_memory_gets_them(editor):
    without_resources = without(vmi(), "spec", "domain", "resources")
    injected(made(editor, without_resources))
    document = vmi(resources={"requests": {"memory": "128Mi"}})
    injected(made(editor, without(document, "spec", "domain", "memory")))


def test_a_larger_overhead_is_kept_and_a_smaller_one_refused(editor):
    for added in ("3Gi", 1073741824):
        memory = {"guest": "128Mi", "reservedOverhead": {"addedOverhead": added}}
        injected(made(editor, vmi(memory=memory)), added=str(added))
    for added in ("1000Mi", 5, "-3Gi"):
        memory = {"guest": "128Mi", "reservedOverhead": {"addedOverhead": added}}
        said = f"addedOverhead is {added}, and a VM with an AP matrix needs 1Gi at least"
        assert said in editor.refused(vmi(memory=memory))


@pytest.mark.parametrize("text", ["[]", " [ ] ", "[\n]\n"])
def test_an_empty_list_of_sidecars_gets_ours(editor, text):
    injected(made(editor, vmi(hooks(text))))


@pytest.mark.parametrize("text", [f"[{USERS}]", f"  [ {USERS} ]\n", f"[{USERS}, {USERS}]"])
def test_a_user_s_own_sidecars_are_kept_before_ours(editor, text):
    found = json.loads(made(editor, vmi(hooks(text)))["metadata"]["annotations"][HOOKS])
    assert found == [*json.loads(text), json.loads(ENTRY)]


def test_what_was_injected_already_is_not_injected_again(editor):
    once = made(editor, vmi(hooks(f"[{USERS}]")))
    again = {**vmi(), "spec": once["spec"]}
    again["metadata"]["annotations"] = {key: once["metadata"]["annotations"][key] for key in (MATRIX, UUID, HOOKS)}
    twice = made(editor, again)
    assert twice["spec"] == once["spec"]
    assert twice["metadata"]["annotations"].items() >= again["metadata"]["annotations"].items()


def test_a_vmi_without_a_matrix_is_left_alone(editor):
    found = made(editor, vmi({HOOKS: "whatever"}, name="plain", space="shop"))
    assert "ap.s390x.io" not in json.dumps(found)
    assert found["metadata"]["annotations"][HOOKS] == "whatever"


@pytest.mark.parametrize(
    "domain",
    [
        {"cpu": {"cores": 2}},
        cpu("host-model"),
        cpu("host-passthrough", vx="disable"),
        cpu("host-model", ap="require", apqi="optional"),
        cpu("gen16a-base", **dict.fromkeys(ALL, "require")),
        cpu("gen16a-base", **dict.fromkeys(ALL, ""), msa5="disable"),
    ],
    ids=str,
)
def test_a_cpu_that_has_the_features_is_left_as_it_is(editor, domain):
    found = made(editor, vmi(**domain))
    injected(found)
    assert found["spec"]["domain"]["cpu"].get("features") == domain["cpu"].get("features")


# --- what is refused

LACKING = [
    (cpu("gen16a-base"), "CPU model gen16a-base comes without the features ap, apqci, apft, apqi, which a guest"),
    (cpu("z15", ap="require", apft="", apqi="force"), "CPU model z15 comes without the features apqci, which"),
    *((cpu(None, **{name: "disable"}), f"the CPU features {name} are turned off, and a guest") for name in ALL),
    (cpu("host-model", ap="forbid", apqi="disable"), "the CPU features ap, apqi are turned off"),
    (cpu("host-passthrough", apft="forbid"), "take them out of spec.domain.cpu.features"),
    (cpu("gen16a-base", **dict.fromkeys(ALL, "disable")), "the CPU features ap, apqci, apft, apqi are turned off"),
]


@pytest.mark.parametrize(("domain", "said"), LACKING)
def test_a_cpu_without_what_the_adapters_need_is_refused(editor, domain, said):
    assert said in editor.refused(vmi(**domain))
    assert said in editor.refused(vm(**domain))
    made(editor, vmi({}, **domain))


def test_a_cpu_that_kubevirt_chooses_is_judged_as_well(admin, editor):
    """A cluster's default CPU comes with the VMI, after the VirtualMachine was written."""
    patch = ("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p")
    admin.kubectl(*patch, json.dumps({"spec": {"configuration": {"cpuModel": "gen16a-base"}}}))
    try:
        until(lambda: not _allowed(editor), "the default is refused")
        assert "CPU model gen16a-base comes without the features ap," in editor.refused(vmi())
        made(editor, vm())
    finally:
        admin.kubectl(*patch, json.dumps({"spec": {"configuration": {"cpuModel": None}}}))
        until(lambda: _allowed(editor), "no default")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (vmi(space="shop"), f"namespace shop may not use matrix payments{NOT_THERE}"),
        (vmi({MATRIX: "secret"}), f"namespace bank may not use matrix secret{NOT_THERE}"),
        (vmi({MATRIX: ""}), f"namespace bank may not use matrix {NOT_THERE}"),
        (vmi({MATRIX: "No/Such Name~1"}), "namespace bank may not use matrix No/Such Name~1"),
        (
            vmi({MATRIX: "payments", UUID: CARDS}),
            f"annotation ap.s390x.io/uuid says {CARDS}, but matrix payments is {PAYMENTS}",
        ),
        (vmi({UUID: PAYMENTS}), "but there is no annotation ap.s390x.io/matrix: leave it out"),
        (vmi({}, resources={"limits": {RESOURCE: "1"}}), RESOURCES),
        (vmi({}, resources={"requests": {RESOURCE: "1"}}, space="shop"), RESOURCES),
        (vmi(resources={"limits": {"ap.s390x.io/cards": "1"}}), RESOURCES),
        (vmi(devices={"hostDevices": [{"name": "a", "deviceName": RESOURCE}]}), DEVICES),
        (vmi({}, devices={"gpus": [{"name": "a", "deviceName": RESOURCE}]}), DEVICES),
        (vmi(hooks("")), NO_LIST),
        (vmi(hooks('{"image":"x"}')), NO_LIST),
        (vmi(hooks("[")), NO_LIST),
        (vmi(hooks(f"[{ENTRY},{USERS}]")), OWN),
        (vmi(hooks('[{"image": "vfio-ap-hook:0.1.0", "configMap": {"name": "x"}}]')), OWN),
        (vmi(hooks('[{"image": "vfio-ap-hook@sha256:00"}]')), OWN),
        (
            vmi({MATRIX: "payments", HOLD: "lifted"}),
            "annotation ap.s390x.io/hold belongs to the pods of a migration",
        ),
    ],
)
def test_a_vmi_that_asks_otherwise_is_refused_with_what_to_do(editor, document, said):
    assert said in editor.refused(document)


@pytest.mark.parametrize(
    "change", [{MATRIX: "cards"}, {MATRIX: None}, {UUID: CARDS}, {HOOKS: "[]"}, {HOOKS: None}]
)
def test_nobody_changes_what_a_vm_runs_with(admin, kubevirt, editor, running, change):
    patch = json.dumps({"metadata": {"annotations": change}})
    for who in (editor, kubevirt, admin):
        assert FROZEN in who.refusal("patch", "vmi", "one", "-n", "bank", "--type=merge", "-p", patch)


@pytest.mark.parametrize("label", ["cards", None])
def test_the_label_by_which_the_operator_finds_a_vm_stays(admin, editor, running, label):
    patch = json.dumps({"metadata": {"labels": {MATRIX: label}}})
    for who in (editor, admin):
        said = who.refusal("patch", "vmi", "one", "-n", "bank", "--type=merge", "-p", patch)
        assert "label ap.s390x.io/matrix of a VM with a matrix is the matrix's name" in said


def test_other_annotations_of_a_running_vm_are_free(editor, running):
    editor.kubectl("annotate", "vmi", "one", "-n", "bank", "team=blue")
    assert "belongs to the pods of a migration" in editor.refusal(
        "annotate", "vmi", "one", "-n", "bank", "ap.s390x.io/hold=lifted"
    )


def test_a_vm_without_a_matrix_cannot_get_one_while_it_runs(admin, editor):
    editor.create(vmi({}, name="plain"))
    try:
        assert FROZEN in editor.refusal("annotate", "vmi", "plain", "-n", "bank", "ap.s390x.io/matrix=payments")
    finally:
        admin.kubectl("delete", "vmi", "plain", "-n", "bank", "--timeout=60s")


def test_a_running_vm_can_be_changed_and_ends_when_its_namespace_has_lost_the_permission(admin, operator, editor):
    editor.create(vmi({MATRIX: "cards"}, name="late"))
    operator.kubectl("label", "namespace", "bank", "use.ap.s390x.io/cards-")
    try:
        until(lambda: not _allowed(editor), "permission withdrawn")
        editor.kubectl("annotate", "vmi", "late", "-n", "bank", "team=blue")
        admin.kubectl("delete", "vmi", "late", "-n", "bank", "--timeout=60s")
    finally:
        operator.kubectl("label", "namespace", "bank", f"use.ap.s390x.io/cards={CARDS}")
        until(lambda: _allowed(editor), "permission back")


def _allowed(editor):
    try:
        made(editor, vmi({MATRIX: "cards"}))
    except CommandFailedError:
        return False
    return True


def test_without_what_injects_no_vm_with_a_matrix_is_made(admin, editor):
    """A policy that was to be there and is not closes the way, and does not open it."""
    binding = admin.get("mutatingadmissionpolicybinding", "vfio-ap-vmis")
    admin.kubectl("delete", "mutatingadmissionpolicybinding", "vfio-ap-vmis")
    try:
        until(lambda: not _allowed(editor), "no injection")
        assert "nothing added the vfio-ap sidecar and resource to this VM" in editor.refused(
            vmi(hooks(f"[{ENTRY}]"))
        )
    finally:
        fresh = copy.deepcopy(binding)
        for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            fresh["metadata"].pop(key, None)
        admin.create(fresh)
        until(lambda: _allowed(editor), "injection again")


# --- post-copy


def moving(allowed):
    """Return a patch of the status as KubeVirt hands a migration over."""
    state = {"migrationConfiguration": {"allowPostCopy": allowed, "completionTimeoutPerGiB": 7}}
    return (
        "patch",
        "vmi",
        "one",
        "-n",
        "bank",
        "--type=merge",
        "-p",
        json.dumps({"status": {"migrationState": state}}),
    )


def configuration(who):
    return who.get("vmi", "one", "-n", "bank")["status"]["migrationState"]["migrationConfiguration"]


def test_post_copy_is_turned_off_for_a_vm_with_a_matrix_whatever_a_migration_policy_says(admin, kubevirt, running):
    kubevirt.kubectl(*moving(True))
    assert configuration(admin) == {"allowPostCopy": False, "completionTimeoutPerGiB": 7}


def test_post_copy_of_other_vms_is_their_own(admin, kubevirt, editor):
    editor.create(vmi({}))
    try:
        kubevirt.kubectl(*moving(True))
        assert configuration(admin)["allowPostCopy"] is True
    finally:
        admin.kubectl("delete", "vmi", "one", "-n", "bank", "--timeout=60s")


def test_without_what_turns_post_copy_off_no_migration_is_handed_over(admin, kubevirt, running):
    binding = admin.get("mutatingadmissionpolicybinding", "vfio-ap-postcopy")
    admin.kubectl("delete", "mutatingadmissionpolicybinding", "vfio-ap-postcopy")

    def handed_over():
        try:
            kubevirt.kubectl(*moving(True), "--dry-run=server")
        except CommandFailedError as error:
            assert "QEMU moves no guest with an AP matrix by post-copy" in error.refusal.message
            return False
        return True

    try:
        until(lambda: not handed_over(), "nothing turns it off")
        kubevirt.kubectl(*moving(False))
    finally:
        fresh = copy.deepcopy(binding)
        for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            fresh["metadata"].pop(key, None)
        admin.create(fresh)
        until(handed_over, "turned off again")
