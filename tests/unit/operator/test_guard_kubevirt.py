"""Nothing is provisioned beside a KubeVirt that would delete it, hand it out, or fail late."""

import json
import re

import pytest

from vfio_ap_kube.preconditions.kubevirt import DEFINITION, OVERRIDE, refusal_of

SAFE = {
    "mediatedDevicesConfiguration": {"enabled": False},
    "developerConfiguration": {"featureGates": ["Sidecar", "ReservedOverheadMemlock", "Other"]},
}
BY_TYPE = {"mdevNameSelector": "VFIO_AP_Passthrough_Device", "resourceName": "x/ap"}
KEPT = {"mdevNameSelector": "VFIO AP Passthrough Device", "resourceName": "x/ap", "externalResourceProvider": True}


def kubevirt(configuration, **annotations):
    metadata = {"name": "kubevirt", "namespace": "kubevirt", "annotations": annotations}
    return {"metadata": metadata, "spec": {"configuration": configuration}}


def merged(base, patch):
    """RFC 7386, as kubectl patch --type=merge does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        result[key] = merged(result.get(key), value)
    return result


@pytest.mark.parametrize(
    "configuration",
    [
        SAFE,
        {**SAFE, "migrations": {"allowPostCopy": False, "allowAutoConverge": True}},
        {**SAFE, "mediatedDevicesConfiguration": {}, "permittedHostDevices": {"mediatedDevices": [KEPT]}},
        {
            "developerConfiguration": {
                "featureGates": ["Sidecar", "ReservedOverheadMemlock", "DisableMDEVConfiguration"]
            }
        },
    ],
)
def test_a_safe_one_is_no_obstacle(configuration):
    assert refusal_of([kubevirt(configuration)]) is None


@pytest.mark.parametrize(
    ("configuration", "word"),
    [
        ({}, "would delete the devices"),
        ({**SAFE, "mediatedDevicesConfiguration": {"enabled": True}}, "would delete the devices"),
        ({**SAFE, "developerConfiguration": {"featureGates": ["Sidecar"]}}, "ReservedOverheadMemlock are off"),
        ({**SAFE, "permittedHostDevices": {"mediatedDevices": [BY_TYPE, KEPT]}}, "by type"),
        ({**SAFE, "migrations": {"allowPostCopy": True}}, "by post-copy, by which QEMU moves no guest"),
    ],
)
def test_the_patch_in_the_message_mends_it(configuration, word):
    document = kubevirt(configuration)
    refusal = refusal_of([document])
    assert refusal is not None
    assert word in refusal.message
    command = re.fullmatch(r"kubectl patch kubevirt kubevirt -n kubevirt --type=merge -p '(.*)'", refusal.remedy)
    assert refusal_of([merged(document, json.loads(command[1]))]) is None


def test_other_gates_and_devices_survive_the_patch():
    other = {"mdevNameSelector": "NVIDIA A", "resourceName": "x/gpu"}
    document = kubevirt(
        {
            "developerConfiguration": {"featureGates": ["Mine"]},
            "permittedHostDevices": {"mediatedDevices": [BY_TYPE, other]},
        }
    )
    patch = json.loads(refusal_of([document]).remedy.split("'")[1])["spec"]["configuration"]
    assert patch["developerConfiguration"]["featureGates"] == ["Mine", "Sidecar", "ReservedOverheadMemlock"]
    assert patch["permittedHostDevices"]["mediatedDevices"] == [other]


def definition(*served, memory=("guest", "reservedOverhead"), overhead=("addedOverhead", "memLock")):
    """KubeVirt's definition of a VMI: the last version of those named has these fields, the others have all."""

    def schema(memory, overhead):
        inner = {"properties": {name: {"type": "string"} for name in overhead}}
        found = {"properties": {name: inner if name == "reservedOverhead" else {} for name in memory}}
        for name in ("memory", "domain", "spec"):
            found = {"properties": {name: found}}
        return {"openAPIV3Schema": found}

    whole = schema(("reservedOverhead",), ("memLock",))
    versions = [{"name": name, "served": True, "schema": whole} for name in served]
    versions[-1]["schema"] = schema(memory, overhead)
    return {"metadata": {"name": DEFINITION}, "spec": {"versions": versions}}


@pytest.mark.parametrize(
    "old",
    [
        definition("v1", memory=("guest",)),
        definition("v1", overhead=("addedOverhead",)),
        definition("v1", "v1alpha3", memory=()),
        {"metadata": {"name": DEFINITION}, "spec": {"versions": [{"name": "v1", "served": True}]}},
        {"metadata": {"name": DEFINITION}, "spec": {}},
    ],
    ids=["no overhead", "no lock", "not in each version", "no schema", "no version"],
)
def test_one_whose_vms_cannot_lock_memory_is_too_old(old):
    document = kubevirt(SAFE) | {"status": {"observedKubeVirtVersion": "v1.7.0"}}
    refusal = refusal_of([document], definition=old)
    assert (refusal.reason, refusal.subject) == ("KubeVirtTooOld", "KubeVirt kubevirt/kubevirt")
    assert "v1.7.0 does not know spec.domain.memory.reservedOverhead.memLock" in refusal.message
    assert refusal.remedy == "upgrade KubeVirt to 1.8 or newer"
    assert refusal_of([kubevirt({})], "kubevirt", old).reason == "KubeVirtTooOld", (
        "no patch of its settings mends that"
    )
    assert refusal_of([kubevirt({}, **{OVERRIDE: "true"})], "other", old) is None


def test_one_with_the_field_in_each_version_that_is_served_is_not_too_old():
    new = definition("v1", "v1alpha3")
    assert refusal_of([kubevirt(SAFE)], "kubevirt", new) is None
    assert refusal_of([kubevirt({})], "kubevirt", new).reason == "KubeVirtUnsafe"
    new["spec"]["versions"].append({"name": "v1alpha1", "served": False})
    assert refusal_of([kubevirt(SAFE)], "kubevirt", new) is None


def test_one_that_the_policies_do_not_look_for_is_told():
    refusal = refusal_of([kubevirt(SAFE)], "openshift-cnv")
    assert refusal.reason == "KubeVirtElsewhere"
    assert "look for KubeVirt in namespace openshift-cnv" in refusal.message
    assert refusal.remedy.endswith("--set kubevirt.namespace=kubevirt")
    assert refusal_of([kubevirt(SAFE)], "kubevirt") is None


def test_the_check_can_be_overridden_and_no_kubevirt_is_no_danger():
    assert refusal_of([kubevirt({}, **{OVERRIDE: "true"})]) is None
    assert refusal_of([]) is None
