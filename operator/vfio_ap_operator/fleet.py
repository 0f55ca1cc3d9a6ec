"""The operator's picture of the cluster: what the watches brought, and what must be looked at again.

It holds compact views, knows which change touches what, and decides nothing. Documents come in, names of dirty
matrices, nodes and namespaces come out. At 1,000 nodes and 5,000 matrices a change costs what shares adapters, a
UUID, a node or a namespace with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import GatePlan
from vfio_ap.fleet.placement import Group
from vfio_ap.fleet.policy import PolicyView, policy_of
from vfio_ap.fleet.scheduling import Taint
from vfio_ap.fleet.views import MatrixView, NodeView, Placement
from vfio_ap.matrix import Matrix
from vfio_ap_kube.snapshot import matrices, nodes, policies
from vfio_ap_kube.snapshot.names import USE_LABEL
from vfio_ap_operator.index import Index
from vfio_ap_operator.workloads import Workloads


@dataclass(slots=True)
class MatrixRecord:
    """An APMatrix: its view and what writing it back needs."""

    view: MatrixView
    uid: str
    generation: int
    version: str
    finalizers: tuple[str, ...]
    status: dict[str, Any]


@dataclass(slots=True)
class NodeRecord:
    """A node: its APNode if there is one, what its Node says, and the view of both."""

    name: str
    uid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    ready: bool = False
    allocatable: frozenset[str] = frozenset()
    taints: tuple[Taint, ...] = ()
    document: dict[str, Any] | None = None
    """Metadata and spec of the APNode; its status lives on in the view only."""
    heard: bool = False
    """The agent's Lease is fresh."""
    view: NodeView | None = None


class Fleet:
    """Everything that the operator knows; see the module's docstring."""

    def __init__(self) -> None:
        self.matrices: dict[str, MatrixRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.views: dict[str, NodeView] = {}
        """The nodes that have an AP bus."""
        self.namespaces: dict[str, dict[str, str]] = {}
        """By namespace, the matrices that its labels admit, each with the UUID that the label says."""
        self.refusals: dict[str, Refusal] = {}
        self.guard: Refusal | None = None
        """Why nothing may be provisioned now."""
        self.policies: dict[str, PolicyView] = {}
        self.policy_statuses: dict[str, tuple[int, dict[str, Any]]] = {}
        """By policy, its generation and what its status says."""
        self.work = Workloads(self.touch)
        self.dirty_matrices: set[str] = set()
        self.dirty_policies: set[str] = set()
        self.dirty_nodes: set[str] = set()
        self.dirty_namespaces: set[str] = set()
        self.wake = asyncio.Event()
        self._rivalry: Index[int | str] = Index()
        """Matrices by adapter and by UUID: two without a common key cannot contradict each other."""
        self._placements: Index[Placement] = Index()
        self._allowed: Index[str] = Index()
        self._claimed: Index[str] = Index()
        """Matrices by node where pods need them."""
        self._holding: Index[str] = Index()
        """Nodes by name of a matrix in their spec and by UUID of a device that they hold."""
        self._alike: Index[tuple[object, ...]] = Index()
        """Nodes by what of them matters to a matrix that they do not hold."""

    # -- questions

    def rivals(self, view: MatrixView) -> list[MatrixView]:
        """Return the matrices that are not refused and could contradict this one."""
        names = self._rivalry.find(*view.adapters, view.uuid or "none")
        return [self.matrices[name].view for name in names if name not in self.refusals]

    def holders(self, view: MatrixView) -> list[NodeView]:
        """Return the nodes that have the matrix in their spec or its device, foreign ones too, by name."""
        names = self._holding.find(view.name, view.uuid or "none")
        return [self.views[name] for name in sorted(names)]

    def groups(self, view: MatrixView) -> list[Group]:
        """Return the nodes that do not hold the matrix and may, alike ones together."""
        holding = self._holding.find(view.name, view.uuid or "none")
        found = []
        for _, members in self._alike.items():
            names = members - holding
            if view.selector:
                names = {name for name in names if view.selects(self.views[name].labels)}
            parts: dict[Matrix, list[str]] = {}
            for name in sorted(names):
                parts.setdefault(view.on(self.views[name]), []).append(name)
            found += [Group(self.views[part[0]], tuple(part)) for part in parts.values()]
        return found

    def concerning(self, node: NodeView) -> list[MatrixView]:
        """Return the matrices that may have a device on the node."""
        names = self._placements.find(Placement.EVERYWHERE) | {item.matrix for item in node.desired}
        names |= self._claimed.find(node.name)
        return [self.matrices[name].view for name in names & self.matrices.keys()]

    def admitted(self, namespace: str) -> dict[str, str]:
        """Return the labels' values by matrix that a namespace may use now; without a UUID none is of use.

        A permission outlives its withdrawal while a VM of the namespace runs with the matrix: without it the VM
        could not be moved any more. The gate lets no other VM have it meanwhile.
        """
        names = {
            name
            for name in self._allowed.find(namespace) - self.refusals.keys()
            if not self.matrices[name].view.deleting
        }
        names |= self.work.needed_in(namespace) & self.matrices.keys()
        views = {name: self.matrices[name].view for name in names}
        return {name: self._use(view) for name, view in views.items() if view.uuid}

    def _use(self, view: MatrixView) -> str:
        """Return the value of the label that admits a matrix."""
        return view.uuid + (".KubeVirt" if self.policy_for(view).evacuation == "KubeVirt" else "")

    def set_guard(self, refusal: Refusal | None) -> bool:
        """Note why nothing may be provisioned, or that all may be; return whether that is news."""
        if refusal == self.guard:
            return False
        self.guard = refusal
        self.dirty_matrices |= self.matrices.keys()
        self.dirty_nodes |= self.views.keys()
        self.wake.set()
        return True

    # -- policies

    def policy_for(self, view: MatrixView) -> PolicyView:
        """Return the policy that stands for a matrix."""
        return policy_of(view, self.policies.values(), PolicyView())

    def observe_policy(self, document: dict[str, Any]) -> None:
        """Take in an APMigrationPolicy as it is now."""
        view = policies.policy_view(document)
        status = document.get("status") or {}
        generation = int(document["metadata"].get("generation", 0))
        self.policy_statuses[view.name] = (generation, status)
        if self.policies.get(view.name) != view:
            self.policies[view.name] = view
            self._policies_changed()

    def forget_policy(self, name: str) -> None:
        """Drop an APMigrationPolicy that is gone."""
        self.policy_statuses.pop(name, None)
        if self.policies.pop(name, None) is not None:
            self._policies_changed()

    def _policies_changed(self) -> None:
        self.dirty_matrices |= self.matrices.keys()
        self.dirty_policies |= self.policies.keys()
        self.dirty_namespaces |= self.namespaces.keys()
        self.wake.set()

    # -- pods, VMs and moves

    def decide_gate(self, matrix: str, plan: GatePlan) -> None:
        """Note what was decided for a matrix's pods; what is needed anew or no more is dirty."""
        nodes, namespaces = self.work.decide_gate(matrix, plan)
        self._claimed.put(matrix, plan.claim.nodes)
        self.dirty_nodes |= nodes
        self.dirty_namespaces |= namespaces

    def touch(self, matrix: str) -> None:
        """Have a matrix looked at again, if it is one."""
        if matrix in self.matrices:
            self.dirty_matrices.add(matrix)
        self.wake.set()

    # -- APMatrix

    def observe_matrix(self, document: dict[str, Any]) -> None:
        """Take in an APMatrix as it is now; an older state than the known one is ignored."""
        metadata = document["metadata"]
        name, known = metadata["name"], self.matrices.get(metadata["name"])
        version = metadata["resourceVersion"]
        if known is not None and known.uid == metadata["uid"] and int(known.version) >= int(version):
            return
        view = matrices.matrix_view(document)
        self.matrices[name] = MatrixRecord(
            view,
            metadata["uid"],
            int(metadata.get("generation", 0)),
            version,
            tuple(metadata.get("finalizers") or ()),
            document.get("status") or {},
        )
        self.dirty_matrices.add(name)
        if known is None or known.view != view:
            self._matrix_changed(name, known.view if known else None, view)
        self.wake.set()

    def forget_matrix(self, name: str) -> None:
        """Drop an APMatrix that is gone."""
        record = self.matrices.pop(name, None)
        self.refusals.pop(name, None)
        if record is not None:
            self.decide_gate(name, GatePlan())
            self._matrix_changed(name, record.view, None)
            self.dirty_matrices.discard(name)
            self.wake.set()

    def _matrix_changed(self, name: str, old: MatrixView | None, new: MatrixView | None) -> None:
        """Index a matrix anew and mark what its change touches: rivals, nodes, namespaces."""
        keys: set[int | str] = set()
        for view in (old, new):
            if view is not None:
                keys |= {*view.adapters, view.uuid or "none"}
                self.dirty_namespaces |= view.namespaces
                self.touch_nodes(view)
        self._rivalry.put(name, {*new.adapters, new.uuid or "none"} if new else ())
        self._placements.put(name, {new.placement} if new else ())
        self._allowed.put(name, new.namespaces if new else ())
        if old is None or new is None or old.labels != new.labels:
            self.dirty_policies |= self.policies.keys()
        self.dirty_matrices |= self._rivalry.find(*keys - {"none"})
        self.dirty_matrices |= self.refusals.keys() & self.matrices.keys()

    def touch_nodes(self, view: MatrixView) -> None:
        """Mark the nodes whose spec may change with the matrix."""
        self.dirty_nodes |= self._holding.find(view.name, view.uuid or "none")
        if view.placement is Placement.EVERYWHERE:
            self.dirty_nodes |= (
                {name for name, node in self.views.items() if view.selects(node.labels)}
                if view.selector
                else self.views.keys()
            )

    # -- nodes

    def observe_node(self, document: dict[str, Any]) -> None:
        """Take in a Node as it is now."""
        metadata = document["metadata"]
        record = self.nodes.setdefault(metadata["name"], NodeRecord(metadata["name"]))
        record.uid, record.labels = metadata["uid"], dict(metadata.get("labels") or {})
        record.ready, record.allocatable = nodes.node_ready(document), nodes.allocatable_matrices(document)
        record.taints = nodes.taints(document)
        self._refresh(record)

    def forget_node(self, name: str) -> None:
        """Drop a Node that is gone; its APNode follows by garbage collection."""
        if record := self.nodes.get(name):
            record.uid, record.ready, record.allocatable = "", False, frozenset()
            self._refresh(record)

    def observe_apnode(self, document: dict[str, Any]) -> None:
        """Take in an APNode as it is now."""
        name = document["metadata"]["name"]
        record = self.nodes.setdefault(name, NodeRecord(name))
        record.document = {"metadata": document["metadata"], "spec": document.get("spec") or {}}
        self._refresh(record, document)

    def forget_apnode(self, name: str) -> None:
        """Drop an APNode that is gone: the node has no AP bus any more, or is gone itself."""
        if record := self.nodes.get(name):
            record.document = None
            self._refresh(record)

    def hear(self, name: str, heard: bool) -> None:
        """Note whether the node's agent lives."""
        record = self.nodes.get(name)
        if record is not None and record.heard is not heard:
            record.heard = heard
            self._refresh(record)

    def _refresh(self, record: NodeRecord, document: dict[str, Any] | None = None) -> None:
        old = record.view
        alive = record.ready and record.heard
        if record.document is None:
            record.view = None
        elif document is None and old is not None:
            record.view = dataclasses.replace(
                old,
                labels=record.labels,
                taints=record.taints,
                alive=alive,
                allocatable=record.allocatable,
            )
        else:
            record.view = nodes.node_view(
                document or record.document,
                labels=record.labels,
                taints=record.taints,
                ready=alive,
                allocatable=record.allocatable,
            )
        if record.document is None and not record.uid:
            self.nodes.pop(record.name, None)
        if record.view != old:
            self._node_changed(record.name, old, record.view)
            self.wake.set()

    def _node_changed(self, name: str, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            self.views.pop(name, None)
        else:
            self.views[name] = new
            self.dirty_nodes.add(name)
        self._holding.put(name, {*(item.matrix for item in new.desired), *new.mdevs} if new else ())
        self._alike.put(name, {new.shape} if new else ())
        if old is None or new is None or old.place != new.place:
            self.dirty_matrices |= self.matrices.keys()
            return
        touched = {item.matrix for view in (old, new) for item in view.desired} | (
            old.allocatable ^ new.allocatable
        )
        if old.terms_of_move != new.terms_of_move:
            touched |= self.work.going_somewhere()
        uuids = old.mdevs.keys() | new.mdevs.keys()
        changed = {uuid for uuid in uuids if old.mdevs.get(uuid) != new.mdevs.get(uuid)}
        self.dirty_matrices |= (touched & self.matrices.keys()) | self._rivalry.find(*changed)

    # -- namespaces

    def observe_namespace(self, document: dict[str, Any]) -> None:
        """Take in a Namespace as it is now; one that is being deleted needs no labels."""
        metadata = document["metadata"]
        if "deletionTimestamp" in metadata:
            self.forget_namespace(metadata["name"])
            return
        labels: dict[str, str] = metadata.get("labels") or {}
        admitted = {
            key.removeprefix(USE_LABEL): value for key, value in labels.items() if key.startswith(USE_LABEL)
        }
        if self.namespaces.get(metadata["name"]) != admitted:
            self.namespaces[metadata["name"]] = admitted
            self.dirty_namespaces.add(metadata["name"])
            self.wake.set()

    def forget_namespace(self, name: str) -> None:
        """Drop a Namespace that is gone."""
        self.namespaces.pop(name, None)
