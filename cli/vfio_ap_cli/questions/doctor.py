"""Everything that the product needs of a cluster: green, or red with the exact remedy.

The checks are those that the operator makes before it provisions, and those that it cannot make: whether it runs
itself, and whether every node's agent does. What could not be looked at is said, and is never green.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vfio_ap.errors import Refusal
from vfio_ap_api.base import GROUP, VERSION
from vfio_ap_api.crd import custom_resource_definition
from vfio_ap_cli.questions.nodes import span
from vfio_ap_cli.reading.documents import OURS, Document
from vfio_ap_cli.snapshot import POLICY_KINDS, Snapshot, installed, newest
from vfio_ap_kube.lease import last_renewed
from vfio_ap_kube.preconditions import kubevirt, policies

State = Literal["ok", "FAIL", "warn", "unknown"]
KINDS = (
    "CustomResourceDefinition",
    "Deployment",
    "DaemonSet",
    "Namespace",
    "KubeVirt",
    "Lease",
    "Node",
    "Pod",
    "APNode",
    "APMatrix",
    *POLICY_KINDS,
    "ValidatingWebhookConfiguration",
)
"""Kinds that are looked at."""
EARLY = "migrations.ap.s390x.io"
"""The webhook that refuses a migration when it is asked for; without it the gate holds the target's pod."""
LEADER = "vfio-ap-operator"
"""Name of the operator's Lease."""
_SKEW = 5.0
"""Seconds by which a Lease may lie in the future before clocks are suspected."""
_HELM = "helm upgrade --install vfio-ap charts/vfio-ap-operator -n {system} --create-namespace"


@dataclass(frozen=True, slots=True)
class Check:
    """One precondition."""

    area: str
    name: str
    state: State
    message: str = ""
    remedy: str = ""
    """What to do, often a command to copy."""


def checks(snapshot: Snapshot) -> list[Check]:
    """Return every check, area by area; a kind that could not be read makes one check that says so."""
    found: list[Check] = []
    areas: tuple[tuple[str, tuple[str, ...], Callable[[Snapshot], Iterator[Check]]], ...] = (
        ("API", ("CustomResourceDefinition",), _definitions),
        ("operator", ("Deployment", "Lease"), _operator),
        ("agents", ("DaemonSet", "Lease", "Node", "APNode"), _agents),
        ("admission", POLICY_KINDS, _admission),
        ("KubeVirt", ("KubeVirt",), _kubevirt),
        ("matrices", ("APMatrix", "Namespace"), _matrices),
    )
    for area, kinds, look in areas:
        blind = [kind for kind in kinds if kind not in snapshot.documents.kinds]
        for kind in blind:
            why = snapshot.documents.missing.get(kind, "it is not in the snapshot")
            found.append(Check(area, kind, "unknown", f"not looked at: {why}", "ask somebody who may read it"))
        if not blind:
            found += look(snapshot)
    return found


def unhealthy(found: list[Check]) -> bool:
    """Tell whether anything is red, or could not be looked at: unknown is never yes."""
    return any(check.state in ("FAIL", "unknown") for check in found)


def blind(found: list[Check]) -> bool:
    """Tell whether nothing at all could be looked at."""
    return all(check.state == "unknown" for check in found)


def _definitions(snapshot: Snapshot) -> Iterator[Check]:
    remedy = "kubectl apply --server-side -f crds/yaml, or " + _HELM.format(system=snapshot.documents.system)
    for kind in OURS:
        name = f"{kind.plural}.{GROUP}"
        document = snapshot.documents.one("CustomResourceDefinition", name)
        label = f"CRD {kind.plural}"
        if document is None:
            yield Check("API", label, "FAIL", "is not installed", remedy)
            continue
        served = [v["name"] for v in document["spec"].get("versions") or [] if v.get("served")]
        if VERSION not in served:
            yield Check("API", label, "FAIL", f"serves {', '.join(served) or 'nothing'} and not {VERSION}", remedy)
        elif not _condition(document, "Established"):
            yield Check("API", label, "FAIL", "is not established yet", f"see kubectl describe crd {name}")
        elif _fields(document) - _fields(custom_resource_definition(kind)):
            yield Check("API", label, "warn", "is newer than this kubectl ap", "update kubectl ap")
        elif _fields(custom_resource_definition(kind)) - _fields(document):
            yield Check("API", label, "warn", "is older than this kubectl ap", remedy)
        else:
            yield Check("API", label, "ok", f"serves {VERSION}")


def _fields(document: Document) -> set[str]:
    """Return the paths of a CRD's fields; a must-gather leaves schemas out, then there are none."""
    versions = [v for v in document["spec"].get("versions") or [] if v.get("name") == VERSION]
    schema = (versions[0].get("schema") or {}).get("openAPIV3Schema") if versions else None
    return set(_paths(schema, "")) if schema else set()


def _paths(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{prefix}.{name}"
        yield from _paths(inner, f"{prefix}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from _paths(schema["items"], prefix)


def _condition(document: Document, kind: str) -> bool:
    conditions = (document.get("status") or {}).get("conditions") or []
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _operator(snapshot: Snapshot) -> Iterator[Check]:
    documents = snapshot.documents
    found = documents.one("Deployment", LEADER, documents.system)
    if found is None:
        yield Check("operator", "Deployment", "FAIL", "is not installed", _HELM.format(system=documents.system))
    else:
        wanted, there = found["spec"].get("replicas", 1), (found.get("status") or {}).get("availableReplicas", 0)
        text = f"{there} of {wanted} replicas are available in {documents.system}"
        state: State = "ok" if there and there >= wanted else "warn" if there else "FAIL"
        see = f"kubectl -n {documents.system} describe deployment {LEADER}"
        yield Check("operator", "Deployment", state, text, "" if state == "ok" else see)
    lease = documents.one("Lease", LEADER, documents.system)
    spec = (lease or {}).get("spec") or {}
    renewed, now = last_renewed(lease) if lease is not None else None, documents.now or newest(documents)
    see = f"kubectl -n {documents.system} logs deployment/{LEADER}"
    if lease is None or not spec.get("holderIdentity") or renewed is None:
        yield Check("operator", "leader", "FAIL", "nobody leads", see)
        return
    age = (now - renewed).total_seconds() if now else 0.0
    if age > 3 * float(spec.get("leaseDurationSeconds") or 15):
        text = f"{spec['holderIdentity']} led, and has not renewed its Lease for {span(age)}"
        yield Check("operator", "leader", "FAIL", text, see)
    else:
        yield Check("operator", "leader", "ok", f"{spec['holderIdentity']} leads")


def _agents(snapshot: Snapshot) -> Iterator[Check]:
    documents = snapshot.documents
    daemons = documents.one("DaemonSet", "vfio-ap-agent", documents.system)
    if daemons is None:
        yield Check("agents", "DaemonSet", "FAIL", "is not installed", _HELM.format(system=documents.system))
    else:
        status = daemons.get("status") or {}
        ready, wanted = status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
        state: State = "ok" if wanted and ready >= wanted else "FAIL"
        text = f"{ready} of {wanted} pods are ready" if wanted else "no node is chosen for it"
        see = f"kubectl -n {documents.system} get pods -l app.kubernetes.io/component=agent -o wide"
        yield Check("agents", "DaemonSet", state, text, "" if state == "ok" else see)
    silent = []
    for name in sorted(snapshot.nodes):
        found = _agent(snapshot, name)
        silent += [check for check in found if check.state != "ok"]
    yield from silent
    good = len(snapshot.nodes) - len({check.name for check in silent})
    if good:
        yield Check(
            "agents", "nodes", "ok", f"{good} of {len(snapshot.nodes)} with an AP bus report and are ready"
        )
    yield from _without_agent(snapshot)


def _agent(snapshot: Snapshot, name: str) -> list[Check]:
    documents, agent = snapshot.documents, snapshot.agents[name]
    pod = (
        f"kubectl -n {documents.system} get pods -l app.kubernetes.io/component=agent "
        f"--field-selector spec.nodeName={name}"
    )
    label = f"node {name}"
    found = []
    node = documents.one("Node", name)
    if node is None:
        return [Check("agents", label, "warn", "has an APNode, and is no Node", f"kubectl delete apnode {name}")]
    if not agent.alive:
        when = f"for {span(agent.age)}" if agent.age is not None else "ever"
        found.append(Check("agents", label, "FAIL", f"its agent has not renewed its Lease {when}", pod))
    elif agent.age is not None and agent.age < -_SKEW:
        text = f"its clock is {span(-agent.age)} ahead of the API server's"
        found.append(Check("agents", label, "warn", text, "see chronyc tracking on both"))
    status = snapshot.statuses.get(name)
    if status is None:
        text = "its status cannot be read: the agent is of another version"
        found.append(Check("agents", label, "FAIL", text, _HELM.format(system=documents.system)))
        return found
    for condition in status.conditions:
        # Applied and the like are about single devices, which the matrices' part tells of
        if condition.type in ("Ready", "DriverLoaded", "SysfsResponsive") and condition.status == "False":
            text = f"{condition.type} is False: {condition.message or condition.reason}"
            command = (
                "modprobe vfio_ap on the node"
                if condition.reason == "DriverNotLoaded"
                else f"kubectl ap nodes {name}"
            )
            found.append(Check("agents", label, "FAIL", text, command))
            break
    return found


def _without_agent(snapshot: Snapshot) -> Iterator[Check]:
    """Tell of s390x nodes that no agent has told of: they have no AP bus, or no agent looks."""
    names = []
    for node in snapshot.documents.of("Node"):
        info = (node.get("status") or {}).get("nodeInfo") or {}
        arch = (node["metadata"].get("labels") or {}).get("kubernetes.io/arch") or info.get("architecture")
        if arch == "s390x" and node["metadata"]["name"] not in snapshot.nodes:
            names.append(node["metadata"]["name"])
    if names:
        shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        text = f"{shown}: s390x without an APNode, so without an AP bus, or without an agent"
        yield Check("agents", "other nodes", "warn", text, "see lszcrypt on the node, and the agent's pod there")


def _admission(snapshot: Snapshot) -> Iterator[Check]:
    documents = snapshot.documents
    found = list(policies.faults(installed(documents)))
    for fault in found:
        yield Check("admission", fault.subject, "FAIL", f"{fault.reason}: {fault.message}", fault.remedy)
    if not found:
        text = f"{len(policies.REQUIRED)} validating policies are there, compile, are bound and deny"
        yield Check("admission", "policies", "ok", text)
    mutating = {item.get("apiVersion", "") for item in documents.of("MutatingAdmissionPolicy")}
    hooks = [h for h in documents.of("MutatingWebhookConfiguration") if h["metadata"]["name"] == policies.WEBHOOK]
    served = "MutatingAdmissionPolicy" not in documents.unserved
    if any(hook.get("webhooks") for hook in hooks):
        text = "the operator's webhook adds to VMs and pods" + (
            "" if served else ": this API server has no MutatingAdmissionPolicy"
        )
        yield Check("admission", "injection", "ok", text)
    elif served:
        version = max(mutating, default="").rpartition("/")[2]
        yield Check("admission", "injection", "ok", f"by MutatingAdmissionPolicy {version}".rstrip())
    yield from _early(snapshot)


def _early(snapshot: Snapshot) -> Iterator[Check]:
    """Tell whether moves that cannot succeed are refused when they are asked for."""
    kind = "ValidatingWebhookConfiguration"
    if kind not in snapshot.documents.kinds:
        return
    hooks = [hook for document in snapshot.documents.of(kind) for hook in document.get("webhooks") or []]
    if any(hook.get("name") == EARLY for hook in hooks):
        yield Check("admission", "early refusal", "ok", "of migrations that can succeed nowhere")
    else:
        text = "is not installed: such migrations are held at their target's pod, and refused later"
        yield Check("admission", "early refusal", "warn", text, _HELM.format(system=snapshot.documents.system))


def _kubevirt(snapshot: Snapshot) -> Iterator[Check]:
    documents = snapshot.documents
    found = documents.of("KubeVirt")
    if not found:
        text = "is not installed: matrices are provisioned, and no VM can use them"
        yield Check("KubeVirt", "KubeVirt", "warn", text, "install KubeVirt 1.8 or newer")
        return
    looked = policies.kubevirt_namespace(installed(documents))
    for document in found:
        metadata, status = document["metadata"], document.get("status") or {}
        name = f"{metadata.get('namespace', '')}/{metadata['name']}"
        version = str(status.get("observedKubeVirtVersion") or status.get("targetKubeVirtVersion") or "")
        phase = str(status.get("phase") or "")
        see = f"kubectl -n {metadata.get('namespace', 'kubevirt')} describe kubevirt {metadata['name']}"
        definition = documents.one("CustomResourceDefinition", kubevirt.DEFINITION)
        if definition is None:
            why = documents.missing.get("CustomResourceDefinition", "it is not there")
            text = f"{version or 'its version is not told'}; CRD {kubevirt.DEFINITION} was not looked at: {why}"
            yield Check("KubeVirt", name, "unknown", text, see)
        elif too_old := kubevirt.outdated(document, definition):
            yield Check("KubeVirt", name, "FAIL", too_old.message, too_old.remedy)
            continue  # it has not all of the settings that the others are about
        elif looked is not None and (elsewhere := kubevirt.misplaced(document, looked)):
            yield Check("KubeVirt", name, "FAIL", elsewhere.message, elsewhere.remedy)
        elif phase and phase != "Deployed":
            yield Check("KubeVirt", name, "warn", f"{version} is {phase}", see)
        else:
            yield Check("KubeVirt", name, "ok", version or "its version is not told")
        yield from _configured(document, name)


def _configured(document: Document, name: str) -> Iterator[Check]:
    overridden = (document["metadata"].get("annotations") or {}).get(kubevirt.OVERRIDE) == "true"
    refusal: Refusal | None = kubevirt.refusal_of([document])
    if overridden:
        text = f"not checked: the annotation {kubevirt.OVERRIDE} takes the responsibility from us"
        yield Check("KubeVirt", "configuration", "warn", text, "remove the annotation to have it checked")
    elif refusal is not None:
        yield Check("KubeVirt", "configuration", "FAIL", refusal.message, refusal.remedy)
    else:
        gates = " and ".join(kubevirt.GATES)
        text = f"leaves mediated devices alone, does not offer ours, has feature gates {gates}"
        yield Check("KubeVirt", "configuration", "ok", text)


def _matrices(snapshot: Snapshot) -> Iterator[Check]:
    """Tell of what stands in a matrix's way: no precondition of the product, so never red."""
    known = {document["metadata"]["name"] for document in snapshot.documents.of("Namespace")}
    for name, view in sorted(snapshot.matrices.items()):
        if refusal := snapshot.refusals.get(name):
            text = f"refused ({refusal.reason}): {refusal.message}"
            yield Check("matrices", name, "warn", text, refusal.remedy)
        for space in sorted(view.namespaces - known):
            text = f"its allowed namespace {space} does not exist"
            yield Check("matrices", name, "warn", text, f"kubectl create namespace {space}, or take it out")
    good = len(snapshot.matrices) - len(snapshot.refusals)
    if good:
        yield Check("matrices", "accepted", "ok", f"{good} of {len(snapshot.matrices)}; see kubectl ap matrix")
