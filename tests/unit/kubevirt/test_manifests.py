import pytest

from vfio_ap_sim.kubevirt.manifests import arranged, resource
from vfio_ap_sim.kubevirt.settings import Settings, kubevirt


def printed(kind, api_version="v1", **more):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "status": {}, **more}


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("ClusterRole", "clusterroles"),
        ("PriorityClass", "priorityclasses"),
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        ("APIService", "apiservices"),
    ],
)
def test_a_kinds_collection(kind, plural):
    assert resource(printed(kind)).plural == plural


def test_whoever_calls_virt_api_gets_its_port_and_authority_and_comes_last():
    webhook = {"name": "w", "clientConfig": {"service": {"name": "virt-api", "path": "/p"}}}
    webhooks = printed("MutatingWebhookConfiguration", webhooks=[webhook, webhook])
    service = printed("APIService", spec={"service": {"name": "virt-api"}, "group": "g"})
    found = arranged([webhooks, service, printed("Role"), printed("CustomResourceDefinition")], "Q0E=", 20443)
    assert [d["kind"] for d in found.definitions] == ["CustomResourceDefinition"]
    assert [d["kind"] for d in found.objects] == ["Role"]
    for called in [w["clientConfig"] for w in found.callers[0]["webhooks"]] + [found.callers[1]["spec"]]:
        assert called["caBundle"] == "Q0E="
        assert called["service"]["port"] == 20443
    assert found.callers[0]["webhooks"][0]["clientConfig"]["service"]["path"] == "/p"
    assert found.callers[1]["spec"]["group"] == "g"


def test_a_status_that_was_printed_is_not_applied():
    assert "status" not in arranged([printed("Role")], "", 1).objects[0]


def test_policies_that_are_printed_without_their_group_get_it():
    (policy,) = arranged([printed("ValidatingAdmissionPolicy")], "", 1).objects
    assert policy["apiVersion"] == "admissionregistration.k8s.io/v1"


def test_the_default_configuration_keeps_virt_handler_from_foreign_mdevs():
    configuration = kubevirt(Settings())["spec"]["configuration"]
    assert configuration["mediatedDevicesConfiguration"] == {"enabled": False}
    assert configuration["developerConfiguration"]["featureGates"] == ["Sidecar", "ReservedOverheadMemlock"]


def test_what_is_not_set_is_left_to_kubevirt():
    configuration = kubevirt(Settings(feature_gates=(), mediated_devices=None))["spec"]["configuration"]
    assert configuration == {"developerConfiguration": {"featureGates": []}}
