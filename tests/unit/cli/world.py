"""A small cluster as documents: three nodes, matrices, VMs and their pods; tests change what they are about."""

import copy

from vfio_ap_api.crd import custom_resource_definition
from vfio_ap_cli.reading.documents import OURS
from vfio_ap_kube.preconditions import policies

NOW = "2026-11-21T12:00:00Z"
FRESH = "2026-11-21T11:59:50.000000Z"
SYSTEM = "vfio-ap-system"
UUID = "11111111-1111-5111-8111-111111111111"
OTHER = "22222222-2222-5222-8222-222222222222"
AES = "0x00112233445566770011223344556677"
APKA = "0x8899aabbccddeeff8899aabbccddeeff"


def meta(name, namespace="", **more):
    space = {"namespace": namespace} if namespace else {}
    return {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": NOW, **space, **more}


def node(name, allocatable=(), labels=None, taints=(), ready=True):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(
            name, labels={"kubernetes.io/hostname": name, "kubernetes.io/arch": "s390x", **(labels or {})}
        ),
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": {"cpu": "4", **{f"ap.s390x.io/{matrix}": "1" for matrix in allocatable}},
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def lease(name, renewed=FRESH, holder=None, seconds=40):
    spec = {"holderIdentity": holder or name, "leaseDurationSeconds": seconds, "renewTime": renewed}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta(name, SYSTEM),
        "spec": spec,
    }


def adapter(number, kind="CEX8C", guest="", host="0-15", in_use="", keys="k1"):
    return {
        "id": number,
        "type": kind,
        "functions": {"C": "0x93800000", "P": "0x87800000", "A": "0x8B800000"}[kind[-1]],
        "serial": f"9{number:07d}",
        "state": "Online",
        "host": host,
        "guest": guest,
        "inUse": in_use,
        "keys": [{"domains": "0-15", "set": keys}],
    }


def device(matrix, uuid, adapters, domains, **more):
    guest = {"guestAdapters": adapters, "guestDomains": domains}
    ids = {"adapters": adapters, "domains": domains}
    return {"uuid": uuid, "matrix": matrix, **ids, **guest, "state": "Ready", "offered": True, **more}


def apnode(name, adapters=None, mdevs=(), reserved=(), machine="A1001", masks=None, **status):
    wanted = [
        {
            "uuid": m["uuid"],
            "matrix": m["matrix"],
            "adapters": m["adapters"],
            "domains": m["domains"],
            "granted": True,
        }
        for m in mdevs
        if m["matrix"]
    ]
    adapters = adapters or [adapter(5), adapter(6)]
    ready = [m for m in mdevs if m["state"] == "Ready"]
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APNode",
        "metadata": meta(name),
        "spec": {"mdevs": wanted, "hostReserved": list(reserved)},
        "status": {
            "observedGeneration": 1,
            "agentVersion": "0.1.0",
            "machine": {"id": f"IBM-3931-00000000000{machine}", "model": "A01", "lpar": name.upper()},
            "kernel": {
                "release": "7.2.0",
                "liveMigration": "v4",
                "queueControl": "Masks",
                "maxAdapter": 255,
                "maxDomain": 255,
            },
            "usageDomains": "0-15",
            "controlDomains": "0-15",
            "masks": masks or {"adapters": "0-255", "domains": "0-255"},
            "adapters": adapters,
            "keySets": [{"name": "k1", "patterns": {"AES CUR": AES, "AES NEW": "empty", "APKA CUR": APKA}}],
            "mdevs": list(mdevs),
            "hostQueues": 32,
            "guestQueues": 0,
            "driverlessQueues": 0,
            "summary": {"adapters": "5-6 (2)", "mdevs": f"{len(ready)}/{len(wanted)}", "state": "Ready"},
            "conditions": [],
            **status,
        },
    }


def matrix(name, adapters, domains, uuid=UUID, created=NOW, **spec):
    accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "observedGeneration": 1}
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMatrix",
        "metadata": meta(name, creationTimestamp=created),
        "spec": {"adapters": adapters, "domains": domains, "allowedNamespaces": ["bank"], **spec},
        "status": {"uuid": uuid, "conditions": [{**accepted, "lastTransitionTime": NOW}] if uuid else []},
    }


def pod(vm, matrix, node="", gated=False, namespace="bank", **more):
    labels = {"ap.s390x.io/matrix": matrix, "kubevirt.io/created-by": f"uid-{vm}", "vm.kubevirt.io/name": vm}
    gates = {"schedulingGates": [{"name": "ap.s390x.io/placement"}]} if gated else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(f"virt-launcher-{vm}-abcde", namespace, labels={**labels, **more.pop("labels", {})}),
        "spec": {"containers": [{"name": "compute"}], **({"nodeName": node} if node else {}), **gates, **more},
        "status": {"phase": "Running" if node else "Pending"},
    }


def vm(name, matrix, namespace="bank", status="Running"):
    template = {"metadata": {"annotations": {"ap.s390x.io/matrix": matrix}}, "spec": {"domain": {}}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": meta(name, namespace),
        "spec": {"runStrategy": "Always", "template": template},
        "status": {"printableStatus": status},
    }


def vmi(name, matrix, node="", namespace="bank", phase="Running"):
    live = {"type": "LiveMigratable", "status": "True"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": meta(
            name, namespace, labels={"ap.s390x.io/matrix": matrix}, annotations={"ap.s390x.io/matrix": matrix}
        ),
        "spec": {"domain": {}},
        "status": {"phase": phase, **({"nodeName": node} if node else {}), "conditions": [live]},
    }


def kubevirt(**configuration):
    good = {
        "developerConfiguration": {"featureGates": ["Sidecar", "ReservedOverheadMemlock"]},
        "mediatedDevicesConfiguration": {"enabled": False},
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": meta("kubevirt", "kubevirt"),
        "spec": {"configuration": {**good, **configuration}},
        "status": {"phase": "Deployed", "observedKubeVirtVersion": "v1.9.0"},
    }


def policy_objects():
    group = "admissionregistration.k8s.io/v1"
    early = [{"name": "migrations.ap.s390x.io", "failurePolicy": "Ignore"}]
    found = [
        {
            "apiVersion": group,
            "kind": "ValidatingWebhookConfiguration",
            "metadata": meta("vfio-ap"),
            "webhooks": early,
        }
    ]
    for kind, names in (("Validating", policies.REQUIRED), ("Mutating", policies.INJECTING)):
        for name in names:
            policy = {"apiVersion": group, "kind": f"{kind}AdmissionPolicy", "metadata": meta(name)}
            found.append({**policy, "spec": {"failurePolicy": "Fail"}, "status": {"observedGeneration": 1}})
            bound = {"policyName": name, "validationActions": ["Deny"]}
            found.append({**policy, "kind": f"{kind}AdmissionPolicyBinding", "spec": bound})
    return found


def workloads(ready=2):
    name = {"labels": {"app.kubernetes.io/name": "vfio-ap-operator"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta("vfio-ap-operator", SYSTEM, **name),
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "o", "image": "operator:0.1.0"}]}}},
        "status": {"availableReplicas": 1},
    }
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta("vfio-ap-agent", SYSTEM, **name),
        "spec": {},
        "status": {"numberReady": ready, "desiredNumberScheduled": 2},
    }
    return [deployment, daemons]


def crds():
    found = []
    for kind in OURS:
        document = copy.deepcopy(custom_resource_definition(kind))
        document["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        found.append(document)
    return found


def definition(field="memLock"):
    """Return KubeVirt's CRD of VMIs, with a field of memory.reservedOverhead and others beside each step to it."""
    schema = {"type": "string"}
    for name in (field, "reservedOverhead", "memory", "domain", "spec"):
        schema = {"type": "object", "properties": {name: schema, "guest": {"description": "long"}}}
    versions = [
        {"name": name, "served": True, "schema": {"openAPIV3Schema": schema}} for name in ("v1", "v1alpha3")
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": meta("virtualmachineinstances.kubevirt.io"),
        "spec": {"group": "kubevirt.io", "versions": versions},
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    }


def cluster():
    """Return lnx1, which holds payments for bank/ledger, lnx2, and lnx3, whose adapter 5 is in EP11 mode."""
    held = device("payments", UUID, "5", "4", inUse=True)
    bits = {
        "adapters": "0-255",
        "domains": "0-3,5-255",
        "along": [{"adapter": 6, "domains": "4"}],
        "alongCount": 1,
    }
    with_guest = [adapter(5, guest="4", host="0-3,5-15", in_use="4"), adapter(6, guest="4", host="0-3,5-15")]
    return [
        apnode("lnx1", with_guest, [held], masks=bits, hostQueues=30, guestQueues=2),
        apnode("lnx2", machine="B2002"),
        apnode("lnx3", [adapter(5, "CEX8P"), adapter(6)], machine="C3003"),
        node("lnx1", ["payments"]),
        node("lnx2"),
        node("lnx3", labels={"zone": "archive"}),
        lease("lnx1"),
        lease("lnx2"),
        lease("lnx3"),
        lease("vfio-ap-operator", holder="vfio-ap-operator-1", seconds=15),
        matrix("payments", [5], [4]),
        vm("ledger", "payments"),
        vmi("ledger", "payments", "lnx1"),
        pod("ledger", "payments", "lnx1"),
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": meta("bank", labels={"use.ap.s390x.io/payments": UUID}),
        },
        *workloads(),
        *policy_objects(),
        *crds(),
        kubevirt(),
        definition(),
        {"kind": "MustGather", "made": NOW, "system": SYSTEM},
    ]


def replaced(documents, *changed):
    """Return the documents with these in the place of those with the same kind and name."""
    keys = {(d["kind"], d["metadata"]["name"]) for d in changed}
    kept = [d for d in documents if (d["kind"], (d.get("metadata") or {}).get("name")) not in keys]
    return [*kept, *changed]


def without(documents, kind, *names):
    """Return the documents without those of a kind, or without some of it."""
    return [d for d in documents if d["kind"] != kind or (names and d["metadata"]["name"] not in names)]
