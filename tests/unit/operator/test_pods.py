"""Launcher pods as they come from the API server, and the patches that let them go."""

import jsonpatch
import pytest

from vfio_ap.fleet.scheduling import Expression, Taint
from vfio_ap_kube.snapshot.pods import pod_view
from vfio_ap_operator import pods


def pod(**spec):
    return {
        "metadata": {
            "name": "virt-launcher-a",
            "namespace": "bank",
            "uid": "p1",
            "labels": {
                "ap.s390x.io/matrix": "pay",
                "kubevirt.io/created-by": "vmi1",
                "vm.kubevirt.io/name": "ledger",
            },
            "annotations": {},
        },
        "spec": {"schedulingGates": [{"name": "other"}, {"name": "ap.s390x.io/placement"}], **spec},
        "status": {"phase": "Pending"},
    }


def test_a_gated_launcher_is_read():
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [{"key": "z", "operator": "In", "values": ["e"]}],
                        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n9"]}],
                    }
                ]
            }
        }
    }
    view = pod_view(pod(affinity=affinity, tolerations=[{"operator": "Exists"}], nodeSelector={"a": "b"}))
    assert (view.matrix, view.owner, view.vm_name, view.gated) == ("pay", "vmi1", "bank/ledger", True)
    assert (view.held, view.target, view.unschedulable) == (False, False, False)
    assert view.constraints.selector == {"a": "b"}
    assert view.constraints.terms == (
        (Expression("z", "In", ("e",)), Expression("metadata.name", "NotIn", ("n9",), on_field=True)),
    )
    assert view.constraints.tolerations[0].covers(Taint("any", "NoSchedule"))


def test_a_held_target_and_one_without_room_are_read():
    document = pod(schedulingGates=[])
    document["metadata"]["labels"]["kubevirt.io/migrationJobUID"] = "m1"
    document["metadata"]["annotations"]["ap.s390x.io/hold"] = "held"
    document["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    view = pod_view(document)
    assert (view.gated, view.held, view.target, view.unschedulable) == (False, True, True, True)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_asks_no_more(phase):
    assert pod_view(pod() | {"status": {"phase": phase}}) is None


@pytest.mark.parametrize("selector", [None, {"a": "b"}, {"kubernetes.io/hostname": "n2"}])
def test_one_patch_lifts_our_gate_alone_and_pins(selector):
    document = pod(**({"nodeSelector": selector} if selector is not None else {}))
    after = jsonpatch.apply_patch(document, pods.lift_patch(document, "n2"))
    assert after["spec"]["schedulingGates"] == [{"name": "other"}]
    assert after["spec"]["nodeSelector"] == {**(selector or {}), "kubernetes.io/hostname": "n2"}


def test_a_first_boot_is_not_pinned():
    document = pod()
    after = jsonpatch.apply_patch(document, pods.lift_patch(document, ""))
    assert "nodeSelector" not in after["spec"]


@pytest.mark.parametrize("annotations", [{}, None, {"a": "b"}])
def test_a_pin_that_no_migration_explains_is_noted_and_one_that_was_there_is_not_ours(annotations):
    document = pod()
    document["metadata"]["annotations"] = annotations
    after = jsonpatch.apply_patch(document, pods.lift_patch(document, "n2", note=True))
    assert after["metadata"]["annotations"] == {**(annotations or {}), "ap.s390x.io/pin": "n2"}
    assert pod_view(after).pinned
    own = pod(nodeSelector={"kubernetes.io/hostname": "n2"})
    assert not pod_view(jsonpatch.apply_patch(own, pods.lift_patch(own, "n2", note=True))).pinned


def test_a_gate_that_is_gone_needs_no_patch():
    assert pods.lift_patch(pod(schedulingGates=[{"name": "other"}]), "n2") == []


def test_the_patch_does_nothing_when_the_gates_moved_meanwhile():
    patch = pods.lift_patch(pod(), "")
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(pod(schedulingGates=[{"name": "ap.s390x.io/placement"}, {"name": "new"}]), patch)
