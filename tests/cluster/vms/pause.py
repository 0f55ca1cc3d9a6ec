"""Keeps the operator from one kind of write, so that a test can look at what is before it. Nothing is timed."""

import json

from vfio_ap_sim.cluster import SYSTEM

OPERATOR = f"system:serviceaccount:{SYSTEM}:vfio-ap-operator"
NAME = "test-pause"
GATE, HOLD, NODES = "gate", "hold", "nodes"
"""Lifting a gate, lifting a hold, changing what nodes shall hold."""
_RULES = {
    GATE: "request.resource.resource != 'pods' || object.spec.?schedulingGates == oldObject.spec.?schedulingGates",
    HOLD: (
        "request.resource.resource != 'pods' || object.metadata.?annotations[?'ap.s390x.io/hold']"
        " == oldObject.metadata.?annotations[?'ap.s390x.io/hold']"
    ),
    NODES: "request.resource.resource != 'apnodes' || object.spec == oldObject.spec",
}
_POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": NAME},
    "spec": {
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [group], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [plural]}
                for group, plural in (("", "pods"), ("ap.s390x.io", "apnodes"))
            ]
        },
        "matchConditions": [{"name": "operator", "expression": f"request.userInfo.username == '{OPERATOR}'"}],
        "validations": [
            {
                "expression": f"params.data.at != '{at}' || ({rule})",
                "message": f"paused at {at}",
                "reason": "Forbidden",
            }
            for at, rule in _RULES.items()
        ],
    },
}
_BINDING = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": NAME},
    "spec": {
        "policyName": NAME,
        "paramRef": {"name": NAME, "namespace": "default", "parameterNotFoundAction": "Allow"},
        "validationActions": ["Deny"],
    },
}


class Pause:
    """The operator's way is free until ``at`` says otherwise."""

    def __init__(self, kubectl):
        self._kubectl = kubectl

    async def install(self):
        await self.at("")
        for document in (_POLICY, _BINDING):
            await self._kubectl("apply", "-f", "-", stdin=json.dumps(document))

    async def at(self, place):
        """Keep the operator from going on at a place; nowhere with an empty one."""
        data = {"at": place}
        metadata = {"name": NAME, "namespace": "default"}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await self._kubectl("apply", "-f", "-", stdin=json.dumps(document))
