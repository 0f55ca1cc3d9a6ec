"""The cluster as the core sees it: documents turned into views, and what follows by the operator's rules.

Pure. The operator decides step by step, as changes come; here the same functions are asked once, about everything.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from vfio_ap.errors import Refusal
from vfio_ap.fleet.conflicts import refusal_of
from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.gate import GatePlan, Situation, plan_gate
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView, policy_of
from vfio_ap.fleet.views import MatrixView, NodeView, Placement
from vfio_ap_api.apnode import APNode, APNodeStatus
from vfio_ap_cli.reading.documents import Document, Documents
from vfio_ap_kube.lease import last_renewed
from vfio_ap_kube.preconditions import kubevirt
from vfio_ap_kube.preconditions import policies as admission
from vfio_ap_kube.snapshot import matrices, nodes, pods, policies, vmis
from vfio_ap_kube.snapshot.names import MATRIX

SILENCE = 45.0
"""Seconds without a renewed Lease after which the operator counts an agent as silent."""
POLICY_KINDS = (
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
)
NEEDED = ("APNode", "APMatrix", "APMigrationPolicy", "Node", "Lease", "Pod", "VirtualMachineInstance")
"""Kinds that a snapshot is made of."""
GUARDS = ("KubeVirt", *POLICY_KINDS)
"""Kinds that say whether the operator provisions anything."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Whether a node's agent lives, by its Lease."""

    alive: bool = False
    age: float | None = None
    """Seconds since it renewed its Lease; None when there is none, or no clock to compare with."""
    known: bool = True
    """False where Leases may not be read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that questions are asked of."""

    documents: Documents = field(default_factory=Documents)
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    """Nodes with an AP bus, by name."""
    statuses: Mapping[str, APNodeStatus] = field(default_factory=dict)
    """What the agents reported; a node is not here when its status makes no sense."""
    agents: Mapping[str, Agent] = field(default_factory=dict)
    matrices: Mapping[str, MatrixView] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By matrix, why it does not stand."""
    pods: Mapping[str, tuple[PodView, ...]] = field(default_factory=dict)
    """By matrix, launcher pods that have not ended."""
    vms: tuple[VmView, ...] = ()
    """Running VMs with a matrix."""
    gates: Mapping[str, GatePlan] = field(default_factory=dict)
    """By matrix, what the operator decides for its pods."""
    holding: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Nodes by name of a matrix in their spec and by UUID of a device that they hold."""
    alike: tuple[tuple[str, ...], ...] = ()
    """Nodes, those together that are alike to a matrix that they do not hold."""
    everywhere: frozenset[str] = frozenset()
    """Matrices whose devices are on every node that they are meant for."""
    policies: tuple[PolicyView, ...] = ()
    """Every APMigrationPolicy."""
    guard: Refusal | None = None
    """Why the operator provisions nothing; None also when that was not looked at."""


def snapshot(documents: Documents, *, guarded: bool = True) -> Snapshot:
    """Return the snapshot of these documents; without ``guarded`` gates are as if the guard were content."""
    agents = {name: _agent(documents, name) for name in _names(documents, "APNode")}
    views = {node["metadata"]["name"]: _node(documents, node, agents) for node in documents.of("APNode")}
    found = {view.name: view for view in map(matrices.matrix_view, documents.of("APMatrix"))}
    refusals = refused(found, views)
    asking: dict[str, tuple[PodView, ...]] = {}
    for document in documents.of("Pod"):
        if (document["metadata"].get("labels") or {}).get(MATRIX) and (view := pods.pod_view(document)):
            asking[view.matrix] = (*asking.get(view.matrix, ()), view)
    rules = tuple(policies.policy_view(document) for document in documents.of("APMigrationPolicy"))
    closed = guard(documents)
    gates = {
        name: plan_gate(
            Situation(
                found[name],
                refusals.get(name) or (closed if guarded else None),
                views,
                policy_of(found[name], rules, PolicyView()),
            ),
            asking[name],
        )
        for name in asking
        if name in found
    }
    return Snapshot(
        documents=documents,
        nodes=views,
        statuses={
            n: status for n, d in _by_name(documents, "APNode").items() if (status := _status(d)) is not None
        },
        agents=agents,
        matrices=found,
        refusals=refusals,
        pods=asking,
        vms=tuple(vm for d in documents.of("VirtualMachineInstance") if (vm := vmis.vm_view(d)) is not None),
        gates=gates,
        holding=_holding(views),
        alike=_alike(views),
        everywhere=frozenset(n for n, view in found.items() if view.placement is Placement.EVERYWHERE),
        policies=rules,
        guard=closed,
    )


def _holding(views: Mapping[str, NodeView]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for name, view in views.items():
        for key in (*(item.matrix for item in view.desired), *view.mdevs):
            found.setdefault(key, set()).add(name)
    return {key: frozenset(names) for key, names in found.items()}


def _alike(views: Mapping[str, NodeView]) -> tuple[tuple[str, ...], ...]:
    found: dict[tuple[object, ...], list[str]] = {}
    for name in sorted(views):
        found.setdefault(views[name].shape, []).append(name)
    return tuple(tuple(names) for names in found.values())


def refused(found: Mapping[str, MatrixView], views: Mapping[str, NodeView]) -> dict[str, Refusal]:
    """Return which matrices do not stand: the stronger ones are judged first, as the operator does."""
    rivals: dict[int | str, list[MatrixView]] = {}
    refusals: dict[str, Refusal] = {}
    for view in sorted(found.values(), key=MatrixView.precedence):
        keys = (*view.adapters, *([view.uuid] if view.uuid else ()))
        # Two matrices without a common adapter or UUID cannot contradict each other
        near = {other.name: other for key in keys for other in rivals.get(key, ())}
        refusal = refusal_of(view, near.values(), views)
        if refusal is not None:
            refusals[view.name] = refusal
            continue
        for key in keys:
            rivals.setdefault(key, []).append(view)
    return refusals


def guard(documents: Documents) -> Refusal | None:
    """Return why the operator provisions nothing, None when nothing speaks against it or was not read."""
    if all(kind in documents.kinds for kind in POLICY_KINDS) and (
        fault := admission.refusal_of(installed(documents))
    ):
        return fault
    definition = documents.one("CustomResourceDefinition", kubevirt.DEFINITION)
    namespace = admission.kubevirt_namespace(installed(documents))
    return kubevirt.refusal_of(documents.of("KubeVirt"), namespace, definition)


def installed(documents: Documents) -> admission.Installed:
    """Return the admission objects in the form that their check takes."""
    return admission.Installed(*(documents.of(kind) for kind in POLICY_KINDS))


def _agent(documents: Documents, name: str) -> Agent:
    if "Lease" not in documents.kinds:
        return Agent(known=False)
    lease = documents.one("Lease", name, documents.system)
    renewed = last_renewed(lease) if lease is not None else None
    now = documents.now or newest(documents)
    if renewed is None or now is None:
        return Agent()
    age = (now - renewed).total_seconds()
    return Agent(age < SILENCE, age)


def newest(documents: Documents) -> datetime.datetime | None:
    """Return the newest stamp of any Lease, which stands for the time where none is told."""
    stamps = [last_renewed(lease) for lease in documents.of("Lease")]
    return max((stamp for stamp in stamps if stamp is not None), default=None)


def _node(documents: Documents, document: Document, agents: Mapping[str, Agent]) -> NodeView:
    name = document["metadata"]["name"]
    node = documents.one("Node", name)
    if node is None:
        return nodes.node_view(document, labels={}, ready=False, allocatable=frozenset())
    agent = agents[name]
    return nodes.node_view(
        document,
        labels=dict(node["metadata"].get("labels") or {}),
        ready=nodes.node_ready(node) and (agent.alive or not agent.known),
        allocatable=nodes.allocatable_matrices(node),
        taints=nodes.taints(node),
    )


def _status(document: Document) -> APNodeStatus | None:
    try:
        return APNode.model_validate(document).status
    except ValidationError:
        return None


def _names(documents: Documents, kind: str) -> list[str]:
    return [document["metadata"]["name"] for document in documents.of(kind)]


def _by_name(documents: Documents, kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents.of(kind)}
