"""Whether the chart's admission policies are there, compile, are bound, and refuse when they cannot be evaluated.

A binding whose policy failed to install leaves everything open and says nothing of it. So nothing is provisioned
before this finds no fault. What a policy says is not compared: whoever may edit one may do anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import ApiError, Client, Document, Resource

_GROUP = "admissionregistration.k8s.io"
VALIDATING = Resource(f"{_GROUP}/v1", "validatingadmissionpolicies")
BINDINGS = Resource(f"{_GROUP}/v1", "validatingadmissionpolicybindings")
WEBHOOKS = Resource(f"{_GROUP}/v1", "mutatingwebhookconfigurations")
REQUIRED = (
    "vfio-ap-agents",
    "vfio-ap-apnodes",
    "vfio-ap-bindings",
    "vfio-ap-features",
    "vfio-ap-namespaces",
    "vfio-ap-pod-changes",
    "vfio-ap-pods",
    "vfio-ap-vmis",
    "vfio-ap-vms",
)
"""ValidatingAdmissionPolicies; each binding has its policy's name."""
INJECTING = ("vfio-ap-pods", "vfio-ap-postcopy", "vfio-ap-vmis")
"""MutatingAdmissionPolicies, where the webhook does not stand for them."""
WEBHOOK = "vfio-ap"
HOOKS = frozenset({"pods.ap.s390x.io", "postcopy.ap.s390x.io", "vmis.ap.s390x.io"})
_REMEDY = "install or upgrade the chart again, and see what the API server says of it"


@dataclass(frozen=True, slots=True)
class Installed:
    """What of the kinds concerned the API server has."""

    validating: tuple[Document, ...]
    validating_bindings: tuple[Document, ...]
    mutating: tuple[Document, ...]
    mutating_bindings: tuple[Document, ...]
    webhooks: tuple[Document, ...]


async def check(client: Client) -> Refusal | None:
    """Return why nothing may be provisioned, None when the policies are in order. Raises ApiError."""
    return refusal_of(await read(client))


async def read(client: Client) -> Installed:
    """Read what is installed. Raises ApiError."""
    return Installed(
        validating=await _items(client, VALIDATING),
        validating_bindings=await _items(client, BINDINGS),
        mutating=await _served(client, "mutatingadmissionpolicies"),
        mutating_bindings=await _served(client, "mutatingadmissionpolicybindings"),
        webhooks=await _items(client, WEBHOOKS),
    )


def refusal_of(installed: Installed) -> Refusal | None:
    """Return the first fault, None where there is none."""
    return next(faults(installed), None)


def faults(installed: Installed) -> Iterator[Refusal]:
    """Yield every fault: one for each validating policy, and the first of what adds to VMs and pods."""
    policies, bindings = _named(installed.validating), _named(installed.validating_bindings)
    for name in REQUIRED:
        if fault := _validating_fault(policies.get(name), bindings.get(name)):
            yield _refusal(f"ValidatingAdmissionPolicy {name}", fault)
    if injecting := _injecting_fault(installed):
        yield injecting


def kubevirt_namespace(installed: Installed) -> str | None:
    """Return where the policies look for KubeVirt, None where that cannot be told."""
    bound = (_named(installed.validating_bindings).get("vfio-ap-features") or {}).get("spec") or {}
    found: str | None = (bound.get("paramRef") or {}).get("namespace")
    return found


def _validating_fault(policy: Document | None, binding: Document | None) -> tuple[str, str] | None:
    if policy is None:
        return "PolicyMissing", "it does not exist"
    status = policy.get("status") or {}
    if status.get("observedGeneration") != policy["metadata"].get("generation"):
        return "PolicyUnchecked", "the API server has not checked it yet"
    warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or []
    if warnings:
        return "PolicyBroken", f"{warnings[0].get('fieldRef')} does not compile: {warnings[0].get('warning')}"
    if binding is not None and "Deny" not in (binding.get("spec") or {}).get("validationActions", ()):
        return "PolicyNotBound", "its binding does not deny"
    return _fault(policy, binding)


def _injecting_fault(installed: Installed) -> Refusal | None:
    """Return what is wrong with what adds to VMs and pods: the policies, or the webhook that stands for them."""
    hooks = (_named(installed.webhooks).get(WEBHOOK) or {}).get("webhooks") or []
    if hooks:
        open_ones = [hook["name"] for hook in hooks if hook.get("failurePolicy") != "Fail"]
        missing = sorted(HOOKS - {hook["name"] for hook in hooks})
        if missing or open_ones:
            what = f"it has no {missing[0]}" if missing else f"failurePolicy of {open_ones[0]} is not Fail"
            return _refusal(f"MutatingWebhookConfiguration {WEBHOOK}", ("PolicyMissing", what))
        return None
    policies, bindings = _named(installed.mutating), _named(installed.mutating_bindings)
    for name in INJECTING:
        policy = policies.get(name)
        # The API server takes none that does not compile
        fault = _fault(policy, bindings.get(name)) if policy else ("PolicyMissing", "it does not exist")
        if fault:
            return _refusal(f"MutatingAdmissionPolicy {name}", fault)
    return None


def _fault(policy: Document, binding: Document | None) -> tuple[str, str] | None:
    """Return what both kinds of policies can have wrong."""
    name, spec = policy["metadata"]["name"], policy.get("spec") or {}
    if spec.get("failurePolicy") != "Fail":
        return "PolicyOpen", "its failurePolicy is not Fail"
    if binding is None:
        return "PolicyNotBound", "it has no binding"
    bound = binding.get("spec") or {}
    if bound.get("policyName") != name:
        return "PolicyNotBound", f"its binding is for {bound.get('policyName')}"
    if bound.get("matchResources"):
        return "PolicyNotBound", "its binding leaves objects out"
    return None


def _refusal(subject: str, fault: tuple[str, str]) -> Refusal:
    return Refusal(fault[0], subject, fault[1], _REMEDY)


def _named(documents: Iterable[Document]) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents}


async def _items(client: Client, resource: Resource) -> tuple[Document, ...]:
    answer: dict[str, Any] = await client.listing(resource)
    return tuple(answer.get("items") or ())


async def _served(client: Client, plural: str) -> tuple[Document, ...]:
    """Return the collection in the first version that the API server has; none where it has neither."""
    for version in ("v1", "v1beta1"):
        try:
            return await _items(client, Resource(f"{_GROUP}/{version}", plural))
        except ApiError as error:
            if not error.not_found:
                raise
    return ()
