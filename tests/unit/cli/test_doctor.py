"""kubectl ap doctor: each precondition, broken one at a time, is red and has its remedy."""

import json

import pytest

from .world import NOW, apnode, cluster, definition, kubevirt, lease, node, replaced, without, workloads

BOUND = ("ValidatingAdmissionPolicyBinding", "vfio-ap-features")


def found(ap, documents):
    done = ap(documents, "doctor", "-o", "json")
    return done.exit_code, {c["name"]: c for c in json.loads(done.stdout) if c["state"] != "ok"}


def test_a_healthy_cluster_is_green(ap):
    assert found(ap, cluster()) == (0, {})
    text = ap(cluster(), "doctor").stdout
    assert text.splitlines()[-1].strip() == "14 ok"


def test_each_crd_is_needed(ap):
    code, bad = found(ap, without(cluster(), "CustomResourceDefinition", "apmigrations.ap.s390x.io"))
    assert code == 1
    assert bad["CRD apmigrations"]["message"] == "is not installed"
    assert "helm upgrade" in bad["CRD apmigrations"]["remedy"]


def test_an_older_crd_is_told(ap):
    documents = cluster()
    crd = next(d for d in documents if d["metadata"]["name"] == "apnodes.ap.s390x.io")
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["keySets"]
    assert found(ap, documents)[1]["CRD apnodes"]["message"] == "is older than this kubectl ap"


def test_an_operator_that_does_not_lead(ap):
    stale = lease("vfio-ap-operator", renewed="2026-11-21T11:30:00Z", holder="op-1", seconds=15)
    code, bad = found(ap, replaced(cluster(), stale))
    assert code == 1
    assert "op-1 led, and has not renewed its Lease for 30m" in bad["leader"]["message"]
    assert "logs deployment/vfio-ap-operator" in bad["leader"]["remedy"]


def test_a_silent_agent(ap):
    code, bad = found(ap, replaced(cluster(), lease("lnx2", renewed="2026-11-21T11:58:00Z")))
    assert code == 1
    assert bad["node lnx2"]["message"] == "its agent has not renewed its Lease for 2m"
    assert "spec.nodeName=lnx2" in bad["node lnx2"]["remedy"]


def test_agents_that_are_not_ready(ap):
    code, bad = found(ap, replaced(cluster(), workloads(ready=1)[1]))
    assert (code, bad["DaemonSet"]["message"]) == (1, "1 of 2 pods are ready")


def test_a_driver_that_is_not_loaded(ap):
    condition = {"type": "Ready", "status": "False", "reason": "DriverNotLoaded", "lastTransitionTime": "x"}
    code, bad = found(ap, replaced(cluster(), apnode("lnx2", conditions=[condition])))
    assert (code, bad["node lnx2"]["remedy"]) == (1, "modprobe vfio_ap on the node")


def test_a_node_without_an_agent_is_told(ap):
    code, bad = found(ap, [*cluster(), node("lnx4")])
    assert code == 0
    assert "lnx4" in bad["other nodes"]["message"]


def test_clocks_that_differ_are_told(ap):
    _, bad = found(ap, replaced(cluster(), lease("lnx2", renewed="2026-11-21T12:01:30Z")))
    assert "its clock is 90s ahead" in bad["node lnx2"]["message"]


@pytest.mark.parametrize("kind", ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"])
def test_each_policy_and_its_binding_are_needed(ap, kind):
    code, bad = found(ap, without(cluster(), kind, "vfio-ap-pods", "vfio-ap-vms"))
    assert code == 1
    assert set(bad) == {"ValidatingAdmissionPolicy vfio-ap-pods", "ValidatingAdmissionPolicy vfio-ap-vms"}


def test_without_early_refusal_moves_are_refused_later(ap):
    code, bad = found(ap, without(cluster(), "ValidatingWebhookConfiguration"))
    assert (code, bad["early refusal"]["state"]) == (0, "warn")


def test_what_injects_is_needed(ap):
    code, bad = found(ap, without(cluster(), "MutatingAdmissionPolicy", "vfio-ap-vmis"))
    assert (code, set(bad)) == (1, {"MutatingAdmissionPolicy vfio-ap-vmis"})


@pytest.mark.parametrize(
    ("configuration", "patch"),
    [
        ({"mediatedDevicesConfiguration": {}}, '"mediatedDevicesConfiguration":{"enabled":false}'),
        ({"developerConfiguration": {"featureGates": ["Sidecar"]}}, '"Sidecar","ReservedOverheadMemlock"'),
        ({"migrations": {"allowPostCopy": True}}, '"allowPostCopy":false'),
    ],
)
def test_kubevirts_configuration_has_its_patch(ap, configuration, patch):
    code, bad = found(ap, replaced(cluster(), kubevirt(**configuration)))
    assert code == 1
    assert bad["configuration"]["remedy"].startswith(
        "kubectl patch kubevirt kubevirt -n kubevirt --type=merge -p "
    )
    assert patch in bad["configuration"]["remedy"]


def test_a_patch_is_never_folded(ap):
    documents = replaced(cluster(), kubevirt(mediatedDevicesConfiguration={}))
    (line,) = [x for x in ap(documents, "doctor", columns=60).stdout.splitlines() if "kubectl patch" in x]
    assert line.endswith("}}}'")


def test_an_old_kubevirt_is_known_by_what_its_vms_can_ask_for(ap):
    old = kubevirt(mediatedDevicesConfiguration={})
    old["status"]["observedKubeVirtVersion"] = "v1.7.2"
    code, bad = found(ap, replaced(cluster(), old, definition("addedOverhead")))
    assert (code, set(bad)) == (1, {"kubevirt/kubevirt"}), "and no patch that it would not take"
    assert bad["kubevirt/kubevirt"]["message"].startswith(
        "v1.7.2 does not know spec.domain.memory.reservedOverhead"
    )
    assert bad["kubevirt/kubevirt"]["remedy"] == "upgrade KubeVirt to 1.8 or newer"


def test_what_kubevirt_calls_itself_says_nothing(ap):
    odd = kubevirt() | {"status": {"phase": "Deployed", "observedKubeVirtVersion": "v0.0.0-main"}}
    assert found(ap, replaced(cluster(), odd)) == (0, {})


def test_a_kubevirt_that_the_policies_do_not_look_for(ap):
    binding = next(d for d in cluster() if d["kind"] == BOUND[0] and d["metadata"]["name"] == BOUND[1])
    elsewhere = {**binding, "spec": {**binding["spec"], "paramRef": {"namespace": "openshift-cnv"}}}
    code, bad = found(ap, replaced(cluster(), elsewhere))
    assert (code, set(bad)) == (1, {"kubevirt/kubevirt"})
    assert bad["kubevirt/kubevirt"]["remedy"].endswith("--set kubevirt.namespace=kubevirt")


def test_a_kubevirt_whose_vms_cannot_be_looked_at_is_not_green(ap):
    name = "virtualmachineinstances.kubevirt.io"
    code, bad = found(ap, without(cluster(), "CustomResourceDefinition", name))
    assert (code, bad["kubevirt/kubevirt"]["state"]) == (1, "unknown")
    assert f"v1.9.0; CRD {name} was not looked at" in bad["kubevirt/kubevirt"]["message"]


def test_who_may_not_read_definitions_is_told_of_kubevirts_settings_all_the_same(ap):
    documents = without(replaced(cluster(), kubevirt(mediatedDevicesConfiguration={})), "CustomResourceDefinition")
    documents = [d for d in documents if d["kind"] != "MustGather"]
    why = "customresourcedefinitions is forbidden"
    documents.append({"kind": "MustGather", "made": NOW, "unread": {"CustomResourceDefinition": why}})
    _, bad = found(ap, documents)
    assert why in bad["kubevirt/kubevirt"]["message"]
    assert "would delete the devices" in bad["configuration"]["message"]


def test_what_could_not_be_read_is_unknown_and_not_green(ap):
    documents = [d for d in cluster() if d["kind"] != "MustGather"]
    documents.append(
        {"kind": "MustGather", "made": "2026-11-21T12:00:00Z", "unread": {"KubeVirt": "kubevirts is forbidden"}}
    )
    code, bad = found(ap, documents)
    assert code == 1
    assert bad["KubeVirt"]["state"] == "unknown"
    assert "forbidden" in bad["KubeVirt"]["message"]
    assert "configuration" not in bad


def test_a_namespace_that_does_not_exist(ap):
    _, bad = found(ap, without(cluster(), "Namespace"))
    assert "namespace bank does not exist" in bad["payments"]["message"]
