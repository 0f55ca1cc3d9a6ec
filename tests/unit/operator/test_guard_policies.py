"""Which faults of the admission policies are found."""

import copy
import dataclasses

import pytest

from vfio_ap_kube.preconditions.policies import HOOKS, INJECTING, REQUIRED, WEBHOOK, Installed, refusal_of


def policy(name):
    return {
        "metadata": {"name": name, "generation": 3},
        "spec": {"failurePolicy": "Fail"},
        "status": {"observedGeneration": 3, "typeChecking": {}},
    }


def binding(name):
    return {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}


def webhook(*names, failure="Fail"):
    hooks = [{"name": name, "failurePolicy": failure} for name in names]
    return {"metadata": {"name": WEBHOOK}, "webhooks": hooks}


GOOD = Installed(
    validating=tuple(policy(name) for name in (*REQUIRED, "somebody-else-s")),
    validating_bindings=tuple(binding(name) for name in REQUIRED),
    mutating=tuple(policy(name) for name in INJECTING),
    mutating_bindings=tuple(binding(name) for name in INJECTING),
    webhooks=(),
)
SERVED = dataclasses.replace(GOOD, mutating=(), mutating_bindings=(), webhooks=(webhook(*HOOKS),))


def changed(kind, name, change):
    """Return GOOD with one document changed, or dropped where ``change`` is None."""
    documents = [copy.deepcopy(d) for d in getattr(GOOD, kind)]
    for document in documents:
        if document["metadata"]["name"] == name and change:
            change(document)
    if change is None:
        documents = [d for d in documents if d["metadata"]["name"] != name]
    return dataclasses.replace(GOOD, **{kind: tuple(documents)})


@pytest.mark.parametrize("installed", [GOOD, SERVED])
def test_what_is_in_order_is_not_refused(installed):
    assert refusal_of(installed) is None


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_policy_or_binding_is_found(name):
    found = refusal_of(changed("validating", name, None))
    assert (found.reason, found.subject) == ("PolicyMissing", f"ValidatingAdmissionPolicy {name}")
    assert refusal_of(changed("validating_bindings", name, None)).reason == "PolicyNotBound"


@pytest.mark.parametrize("name", INJECTING)
def test_a_missing_injection_is_found(name):
    found = refusal_of(changed("mutating", name, None))
    assert (found.reason, found.subject) == ("PolicyMissing", f"MutatingAdmissionPolicy {name}")
    assert refusal_of(changed("mutating_bindings", name, None)).reason == "PolicyNotBound"


WARNING = {"fieldRef": "spec.validations[0].expression", "warning": "undeclared reference"}


@pytest.mark.parametrize(
    ("kind", "change", "reason", "said"),
    [
        ("validating", lambda d: d["metadata"].update(generation=4), "PolicyUnchecked", "not checked it yet"),
        ("validating", lambda d: d.pop("status"), "PolicyUnchecked", "not checked it yet"),
        (
            "validating",
            lambda d: d["status"]["typeChecking"].update(expressionWarnings=[WARNING]),
            "PolicyBroken",
            "spec.validations[0].expression does not compile: undeclared reference",
        ),
        ("validating", lambda d: d["spec"].update(failurePolicy="Ignore"), "PolicyOpen", "failurePolicy"),
        ("mutating", lambda d: d["spec"].update(failurePolicy="Ignore"), "PolicyOpen", "failurePolicy"),
        (
            "validating_bindings",
            lambda d: d["spec"].update(validationActions=["Audit", "Warn"]),
            "PolicyNotBound",
            "does not deny",
        ),
        ("validating_bindings", lambda d: d["spec"].update(policyName="x"), "PolicyNotBound", "is for x"),
        (
            "mutating_bindings",
            lambda d: d["spec"].update(matchResources={"namespaceSelector": {}}),
            "PolicyNotBound",
            "leaves objects out",
        ),
    ],
)
def test_a_policy_that_does_not_bind_is_found(kind, change, reason, said):
    found = refusal_of(changed(kind, "vfio-ap-vmis", change))
    assert found.reason == reason
    assert found.subject.endswith("AdmissionPolicy vfio-ap-vmis")
    assert said in found.message
    assert "install or upgrade the chart again" in found.remedy


@pytest.mark.parametrize(
    "hooks",
    [*(webhook(*HOOKS - {name}) for name in sorted(HOOKS)), webhook(*HOOKS, failure="Ignore")],
    ids=str,
)
def test_a_webhook_that_is_not_whole_or_open_is_found(hooks):
    found = refusal_of(dataclasses.replace(SERVED, webhooks=(hooks,)))
    assert (found.reason, found.subject) == ("PolicyMissing", "MutatingWebhookConfiguration vfio-ap")
    assert found.message


def test_a_webhook_that_is_gone_leaves_nothing():
    assert refusal_of(dataclasses.replace(SERVED, webhooks=())).reason == "PolicyMissing"
