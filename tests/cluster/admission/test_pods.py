"""Pods with a matrix: gated and, on a migration, held; and the ways round both that are closed."""

import copy
import json

import pytest

from ..support import container, pod
from .objects import GATE, HOLD, MATRIX, RESOURCE, TARGET, launcher, made, sidecar

pytestmark = pytest.mark.cluster

PROBE = {
    "exec": {"command": ["vfio-ap-hook", "ready"]},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 10,
    "successThreshold": 1,
}
ONCE = "a pod has the vfio-ap sidecar once, without command, arguments, variables and mounts of its own"
UNHELD = "nothing holds this target of a migration until its node is proven"
NONE = (
    "label ap.s390x.io/matrix and annotation ap.s390x.io/hold belong to pods with a matrix; this pod requests none"
)
ONLY = "only KubeVirt may create pods that request ap.s390x.io resources"
LIFT = "only the vfio-ap operator may lift the scheduling gate ap.s390x.io/placement"
LABEL = "label ap.s390x.io/matrix of a pod is written by admission when the pod is made, and never changes"
NOTES = "annotations ap.s390x.io/* of a pod with a matrix are written by the vfio-ap operator only"
IMAGES = "the images of a pod with a matrix never change"
PLACE = "only the vfio-ap operator may change where a pod that waits at ap.s390x.io/placement can go"
BOUNDS = "the vfio-ap operator changes pods with a matrix only, and of them only the gate, where they go, and"
GIVEN = "labels and annotations ap.s390x.io/* cannot be given to a pod with its node"


def ours(document):
    """Return a pod's container with our sidecar's image."""
    (found,) = [c for c in document["spec"]["containers"] if c["image"].startswith("vfio-ap-hook")]
    return found


def labelled(document, **metadata):
    found = copy.deepcopy(document)
    for key, more in metadata.items():
        found["metadata"][key] = {**found["metadata"].get(key, {}), **more}
    return found


# --- what is added


def test_a_first_boot_waits_at_the_gate_and_is_not_held(kubevirt):
    found = made(kubevirt, launcher())
    assert found["spec"]["schedulingGates"] == [{"name": GATE}]
    assert found["metadata"]["labels"][MATRIX] == "payments"
    assert HOLD not in found["metadata"].get("annotations", {})
    assert "readinessProbe" not in ours(found)
    assert not any(v["name"] == "vfio-ap-hold" for v in found["spec"]["volumes"])


def test_a_migration_s_target_is_held_by_what_only_the_operator_writes(kubevirt):
    found = made(kubevirt, launcher(sidecar("user/side:1"), sidecar(name="hook-sidecar-1"), target=True))
    assert found["spec"]["schedulingGates"] == [{"name": GATE}]
    assert found["metadata"]["annotations"][HOLD] == "held"
    container = ours(found)
    assert container["name"] == "hook-sidecar-1"
    assert container["readinessProbe"] == PROBE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mount = {"name": "vfio-ap-hold", "mountPath": "/etc/vfio-ap/hold", "readOnly": True}
    assert mount in container["volumeMounts"]
    (volume,) = [v for v in found["spec"]["volumes"] if v["name"] == "vfio-ap-hold"]
    (item,) = volume["downwardAPI"]["items"]
    assert (item["path"], item["fieldRef"]["fieldPath"]) == ("annotations", "metadata.annotations")
    others = [c for c in found["spec"]["containers"] if c is not container]
    assert not any("readinessProbe" in c or mount in c.get("volumeMounts", []) for c in others)


def test_the_sidecar_of_a_vm_that_started_before_an_upgrade_holds_as_well(kubevirt):
    for image in ("vfio-ap-hook:0.0.9", "vfio-ap-hook@sha256:" + "0" * 64):
        assert ours(made(kubevirt, launcher(sidecar(image), target=True)))["readinessProbe"] == PROBE


@pytest.mark.parametrize("target", [False, True])
def test_what_is_there_is_not_added_again(kubevirt, target):
    once = made(kubevirt, launcher(target=target))
    fresh = {
        **once,
        "metadata": {
            k: once["metadata"][k] for k in ("name", "namespace", "labels", "annotations") if k in once["metadata"]
        },
    }
    assert made(kubevirt, fresh)["spec"] == once["spec"]


def test_other_gates_are_kept(kubevirt):
    found = made(kubevirt, launcher(schedulingGates=[{"name": "example.com/mine"}]))
    assert found["spec"]["schedulingGates"] == [{"name": "example.com/mine"}, {"name": GATE}]


@pytest.mark.parametrize("forged", ["lifted", "", "held"])
def test_a_hold_that_comes_with_the_pod_counts_for_nothing(kubevirt, forged):
    document = labelled(launcher(target=True), annotations={HOLD: forged}, labels={MATRIX: "cards"})
    metadata = made(kubevirt, document)["metadata"]
    assert (metadata["annotations"][HOLD], metadata["labels"][MATRIX]) == ("held", "payments")


def test_other_pods_are_left_alone(editor):
    found = made(
        editor,
        pod(
            "plain",
            "shop",
            containers=[sidecar("vfio-ap-hook-other:1")],
            volumes=[{"name": "hook-sidecar-sockets", "emptyDir": {}}],
        ),
    )
    assert "schedulingGates" not in found["spec"]
    assert "readinessProbe" not in found["spec"]["containers"][0]
    assert "ap.s390x.io" not in json.dumps(found["metadata"])


# --- what is refused when a pod is made


@pytest.mark.parametrize("space", ["bank", "shop"])
def test_nobody_but_kubevirt_makes_a_pod_with_a_matrix(editor, account, admin, space):
    for who in (editor, admin, *([account] if space == "bank" else [])):
        assert "only KubeVirt may create pods that request ap.s390x.io resources" in who.refused(
            launcher(space=space)
        )


ASKING = {"limits": {RESOURCE: "1"}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"containers": [container(**ASKING)]}, ONLY),
        ({"containers": [container(**ASKING, requests={RESOURCE: "1"})]}, ONLY),
        (
            {"containers": [container(requests={RESOURCE: "1"})]},
            "Limit must be set for non overcommitable resources",
        ),
        ({"initContainers": [container("i", **ASKING)]}, ONLY),
        ({"initContainers": [{**container("i", **ASKING), "restartPolicy": "Always"}]}, ONLY),
        ({"resources": ASKING}, "supported values"),
        (
            {"containers": [container(**ASKING)], "schedulingGates": [{"name": GATE}], "nodeName": "n1"},
            "spec.nodeName",
        ),
        ({"containers": [container(**ASKING)], "serviceAccountName": "default"}, ONLY),
    ],
    ids=str,
)
def test_a_plain_pod_gets_no_matrix_however_it_asks(editor, account, admin, spec, said):
    for who in (editor, account, admin):
        assert said in who.refused(pod("plain", "bank", **spec))


def test_an_ephemeral_container_takes_no_matrix(admin, waiting):
    for name in ("launcher", "plain"):
        whole = admin.get("pod", name, "-n", "bank")
        whole["spec"]["ephemeralContainers"] = [{**container("debug", **ASKING)}]
        path = f"/api/v1/namespaces/bank/pods/{name}/ephemeralcontainers"
        said = admin.refusal("replace", "--raw", path, "-f", "-", document=whole)
        assert "resources: Forbidden: cannot be set for an Ephemeral Container" in said


def test_a_foreign_namespace_gets_no_pod(kubevirt):
    assert "namespace shop may not use matrix payments" in kubevirt.refused(launcher(space="shop"))


def test_a_pod_that_names_its_node_is_refused(kubevirt, editor):
    for who in (kubevirt, editor):
        said = who.refused(launcher(nodeName="n1"))
        assert "cannot be set until all schedulingGates have been cleared" in said


@pytest.mark.parametrize(
    ("sidecars", "said"),
    [
        ([sidecar(), sidecar("vfio-ap-hook:old", "hook-sidecar-1")], ONCE),
        ([sidecar("vfio-ap-hook@sha256:" + "0" * 64), sidecar(name="hook-sidecar-1")], ONCE),
        ([sidecar(command=["sh"])], ONCE),
        ([sidecar(args=["ready"])], ONCE),
        ([sidecar(env=[{"name": "HOLD_FILE", "value": "/var/run/kubevirt-hooks/mine"}])], ONCE),
        ([sidecar(envFrom=[{"configMapRef": {"name": "mine"}}])], ONCE),
        ([sidecar(volumeMounts=[{"name": "mine", "mountPath": "/usr/local/bin"}])], ONCE),
        ([sidecar("user/side:1")], UNHELD),
        ([sidecar("elsewhere/vfio-ap-hook:0.1.0")], UNHELD),
        ([sidecar("vfio-ap-hook-evil:0.1.0")], UNHELD),
    ],
    ids=[
        "twice",
        "an old one first",
        "command",
        "args",
        "env",
        "envFrom",
        "mount over its program",
        "none",
        "registry",
        "name",
    ],
)
def test_a_target_without_our_sidecar_alone_is_refused(kubevirt, sidecars, said):
    volumes = [{"name": "hook-sidecar-sockets", "emptyDir": {}}, {"name": "mine", "emptyDir": {}}]
    assert said in kubevirt.refused(launcher(*sidecars, target=True, volumes=volumes))


@pytest.mark.parametrize(
    "source",
    [
        {"emptyDir": {}},
        {"downwardAPI": {"items": [{"path": "annotations", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {
            "downwardAPI": {
                "items": [
                    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
                    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.labels"}},
                ]
            }
        },
    ],
    ids=["emptyDir", "labels", "both"],
)
def test_a_vm_s_own_volume_cannot_stand_for_the_hold(kubevirt, source):
    volumes = [{"name": "hook-sidecar-sockets", "emptyDir": {}}, {"name": "vfio-ap-hold", **source}]
    said = kubevirt.refused(launcher(target=True, volumes=volumes))
    assert "Duplicate value" in said or UNHELD in said


@pytest.mark.parametrize(
    "forged",
    [
        {"labels": {MATRIX: "payments"}},
        {"annotations": {HOLD: "lifted"}},
        {"labels": {MATRIX: "payments", **TARGET}},
    ],
    ids=str,
)
def test_a_pod_without_a_matrix_cannot_seem_to_have_one(editor, admin, forged):
    for who in (editor, admin):
        assert NONE in who.refused(labelled(pod("plain", "bank"), **forged))


# --- what is refused afterwards


@pytest.fixture
def waiting(admin, kubevirt):
    """A target that exists, gated and held, and a pod without a matrix."""
    kubevirt.create(launcher(target=True))
    admin.create(pod("plain", "bank"))
    yield
    admin.kubectl("delete", "pod", "launcher", "plain", "-n", "bank", "--force")


def patch(kind, change, name="launcher", *flags):
    return ("patch", "pod", name, "-n", "bank", f"--type={kind}", "-p", json.dumps(change), *flags)


UNGATE = patch("json", [{"op": "remove", "path": "/spec/schedulingGates"}])
RELEASE = {"metadata": {"annotations": {HOLD: "lifted"}}}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (UNGATE, LIFT),
        (patch("merge", {"metadata": {"labels": {MATRIX: None}}}), LABEL),
        (patch("merge", {"metadata": {"labels": {MATRIX: "cards"}}}), LABEL),
        (patch("merge", {"metadata": {"labels": {MATRIX: "payments"}}}, "plain"), LABEL),
        (patch("merge", RELEASE), NOTES),
        (patch("merge", {"metadata": {"annotations": {HOLD: None}}}), NOTES),
        (patch("strategic", {"spec": {"containers": [{"name": "hook-sidecar-0", "image": "evil"}]}}), IMAGES),
        (patch("strategic", {"spec": {"containers": [{"name": "compute", "image": "evil"}]}}), IMAGES),
        (patch("merge", {"spec": {"nodeSelector": {"kubernetes.io/hostname": "mine"}}}), PLACE),
        (patch("merge", {"spec": {"affinity": {"nodeAffinity": {}}}}), PLACE),
        (patch("json", [{"op": "add", "path": "/spec/tolerations/-", "value": {"operator": "Exists"}}]), PLACE),
    ],
)
def test_only_the_operator_lets_a_pod_go(editor, account, admin, waiting, command, said):
    before = admin.get("pods", "-n", "bank")
    for who in (editor, account, admin):
        assert said in who.refusal(*command)
    assert admin.get("pods", "-n", "bank")["items"] == before["items"]


def test_no_subresource_is_a_way_round(admin, waiting):
    """Of what writes pods only ``status`` takes metadata; the others must go on to leave it alone."""
    labels = {"metadata": {"labels": {MATRIX: "cards"}}}
    assert NOTES in admin.refusal(*patch("merge", RELEASE, "launcher", "--subresource=status"))
    assert LABEL in admin.refusal(*patch("merge", labels, "launcher", "--subresource=status"))
    before = admin.get("pod", "launcher", "-n", "bank")["metadata"]
    admin.kubectl(*patch("merge", RELEASE | labels, "launcher", "--subresource=resize"))
    whole = admin.get("pod", "launcher", "-n", "bank")
    mount = {"name": "vfio-ap-hold", "mountPath": "/etc/vfio-ap/hold"}
    whole["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "evil", "volumeMounts": [mount]}]
    whole["metadata"]["annotations"][HOLD] = "lifted"
    path = "/api/v1/namespaces/bank/pods/launcher/ephemeralcontainers"
    admin.kubectl("replace", "--raw", path, "-f", "-", document=whole)
    after = admin.get("pod", "launcher", "-n", "bank")["metadata"]
    assert (after["annotations"], after["labels"]) == (before["annotations"], before["labels"])


@pytest.mark.parametrize("given", [{"annotations": {HOLD: "lifted"}}, {"labels": {MATRIX: "cards"}}], ids=str)
def test_a_binding_brings_no_hold_with_it(admin, waiting, given):
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "plain", "namespace": "bank", **given},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
    }
    for path in ("/api/v1/namespaces/bank/pods/plain/binding", "/api/v1/namespaces/bank/bindings"):
        assert GIVEN in admin.refusal("create", "--raw", path, "-f", "-", document=binding)


def test_a_pod_at_the_gate_is_bound_to_no_node(admin, kubevirt, waiting):
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "launcher", "namespace": "bank"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
    }
    path = "/api/v1/namespaces/bank/pods/launcher/binding"
    assert "has non-empty .spec.schedulingGates" in admin.refusal(
        "create", "--raw", path, "-f", "-", document=binding
    )


def test_the_operator_pins_ungates_and_releases(operator, admin, waiting):
    change = [
        {"op": "add", "path": "/spec/nodeSelector", "value": {"kubernetes.io/hostname": "n1"}},
        {"op": "remove", "path": "/spec/schedulingGates"},
    ]
    operator.kubectl(*patch("json", change))
    operator.kubectl(*patch("merge", RELEASE))
    found = admin.get("pod", "launcher", "-n", "bank")
    assert found["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "n1"}
    assert found["metadata"]["annotations"][HOLD] == "lifted"
    assert "schedulingGates" not in found["spec"]


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"team": "red"}}},
        {"metadata": {"annotations": {"team": "red"}}},
        {"metadata": {"finalizers": ["example.com/for-ever"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}},
        {"spec": {"activeDeadlineSeconds": 1}},
    ],
    ids=str,
)
def test_the_operator_changes_nothing_else_of_a_pod(operator, waiting, change):
    assert BOUNDS in operator.refusal(*patch("merge", change))


def test_the_operator_adds_no_toleration(operator, waiting):
    change = [{"op": "add", "path": "/spec/tolerations/-", "value": {"operator": "Exists"}}]
    assert BOUNDS in operator.refusal(*patch("json", change))


@pytest.mark.parametrize(
    "change", [{"metadata": {"annotations": {"ap.s390x.io/x": "1"}}}, {"metadata": {"labels": {"a": "b"}}}]
)
def test_the_operator_changes_no_other_pod(operator, waiting, change):
    assert BOUNDS in operator.refusal(*patch("merge", change, "plain"))


def test_the_rest_of_a_pod_is_its_editors(editor, waiting):
    editor.kubectl(*patch("merge", {"metadata": {"annotations": {"team": "blue"}, "labels": {"team": "blue"}}}))
    editor.kubectl(*patch("merge", {"metadata": {"annotations": {"team": "blue"}}}, "plain"))


def test_a_container_of_ours_among_init_containers_takes_no_matrix(kubevirt):
    init = [container("i", limits={RESOURCE: "1"})]
    assert "a pod takes exactly one ap.s390x.io resource" in kubevirt.refused(launcher(initContainers=init))
