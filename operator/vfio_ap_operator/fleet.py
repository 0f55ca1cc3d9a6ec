"""The operator's picture of the cluster: what the watches brought, and what must be looked at again.

It holds compact views, knows which change touches what, and decides nothing. Documents come in, names of dirty
matrices, nodes and namespaces come out.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vfio_ap.errors import Refusal
from vfio_ap.fleet import MatrixView, NodeView
from vfio_ap_operator import views
from vfio_ap_operator.settings import USE_LABEL


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
        self.namespaces: dict[str, frozenset[str]] = {}
        """By namespace, the matrices that its labels admit."""
        self.refusals: dict[str, Refusal] = {}
        self.dirty_matrices: set[str] = set()
        self.dirty_nodes: set[str] = set()
        self.dirty_namespaces: set[str] = set()
        self.wake = asyncio.Event()

    def views(self) -> dict[str, NodeView]:
        """Return the nodes that have an AP bus, by name."""
        return {name: record.view for name, record in self.nodes.items() if record.view is not None}

    def standing(self) -> Iterable[MatrixView]:
        """Return the matrices that are not refused."""
        return (r.view for name, r in self.matrices.items() if name not in self.refusals)

    # -- APMatrix

    def observe_matrix(self, document: dict[str, Any]) -> None:
        """Take in an APMatrix as it is now; an older state than the known one is ignored."""
        metadata = document["metadata"]
        name, known = metadata["name"], self.matrices.get(metadata["name"])
        if (
            known is not None
            and int(known.version) >= int(metadata["resourceVersion"])
            and known.uid == metadata["uid"]
        ):
            return
        view = views.matrix_view(document)
        record = MatrixRecord(
            view,
            metadata["uid"],
            int(metadata.get("generation", 0)),
            metadata["resourceVersion"],
            tuple(metadata.get("finalizers") or ()),
            document.get("status") or {},
        )
        self.matrices[name] = record
        if known is None or known.view != view:
            self._matrix_changed(name, known.view if known else None, view)
        else:
            self.dirty_matrices.add(name)
        self.wake.set()

    def forget_matrix(self, name: str) -> None:
        """Drop an APMatrix that is gone."""
        record = self.matrices.pop(name, None)
        self.refusals.pop(name, None)
        if record is not None:
            self._matrix_changed(name, record.view, None)
            self.dirty_matrices.discard(name)
            self.wake.set()

    def _matrix_changed(self, name: str, old: MatrixView | None, new: MatrixView | None) -> None:
        """Mark what a change of one matrix touches: its rivals, its nodes, its namespaces."""
        self.dirty_matrices.add(name)
        self.dirty_matrices |= set(self.refusals) & self.matrices.keys()
        adapters = (old.matrix.adapters if old else None), (new.matrix.adapters if new else None)
        for rival, record in self.matrices.items():
            shared = any(ids is not None and ids & record.view.matrix.adapters for ids in adapters)
            if shared or (new is not None and new.uuid and record.view.uuid == new.uuid):
                self.dirty_matrices.add(rival)
        for node, node_view in self.views().items():
            selected = any(view is not None and view.selects(node_view.labels) for view in (old, new))
            if selected or any(item.matrix == name for item in node_view.desired):
                self.dirty_nodes.add(node)
        for view in (old, new):
            self.dirty_namespaces |= view.namespaces if view else frozenset()

    # -- nodes

    def observe_node(self, document: dict[str, Any]) -> None:
        """Take in a Node as it is now."""
        metadata = document["metadata"]
        record = self.nodes.setdefault(metadata["name"], NodeRecord(metadata["name"]))
        record.uid, record.labels = metadata["uid"], dict(metadata.get("labels") or {})
        record.ready, record.allocatable = views.node_ready(document), views.allocatable_matrices(document)
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
        if record.document is None:
            record.view = None
        elif document is None and old is not None:
            record.view = dataclasses.replace(
                old,
                labels=record.labels,
                alive=record.ready and record.heard,
                allocatable=record.allocatable,
            )
        else:
            record.view = views.node_view(
                document or record.document,
                labels=record.labels,
                ready=record.ready and record.heard,
                allocatable=record.allocatable,
            )
        if record.document is None and not record.uid:
            self.nodes.pop(record.name, None)
        if record.view != old:
            self._node_changed(record.name, old, record.view)
            self.wake.set()

    def _node_changed(self, name: str, old: NodeView | None, new: NodeView | None) -> None:
        if new is not None:
            self.dirty_nodes.add(name)
        if old is None or new is None or _shape(old) != _shape(new):
            self.dirty_matrices |= self.matrices.keys()
            return
        touched = {item.matrix for view in (old, new) for item in view.desired} | (
            old.allocatable ^ new.allocatable
        )
        uuids = old.mdevs.keys() | new.mdevs.keys()
        changed = {uuid for uuid in uuids if old.mdevs.get(uuid) != new.mdevs.get(uuid)}
        for matrix, record in self.matrices.items():
            if matrix in touched or record.view.uuid in changed:
                self.dirty_matrices.add(matrix)

    # -- namespaces

    def observe_namespace(self, document: dict[str, Any]) -> None:
        """Take in a Namespace as it is now; one that is being deleted needs no labels."""
        metadata = document["metadata"]
        if "deletionTimestamp" in metadata:
            self.forget_namespace(metadata["name"])
            return
        labels = metadata.get("labels") or {}
        admitted = frozenset(key.removeprefix(USE_LABEL) for key in labels if key.startswith(USE_LABEL))
        if self.namespaces.get(metadata["name"]) != admitted:
            self.namespaces[metadata["name"]] = admitted
            self.dirty_namespaces.add(metadata["name"])
            self.wake.set()

    def forget_namespace(self, name: str) -> None:
        """Drop a Namespace that is gone."""
        self.namespaces.pop(name, None)


def _shape(view: NodeView) -> tuple[object, ...]:
    """Return what of a node matters to matrices that it does not hold."""
    return (view.labels, view.alive, view.max_adapter, view.max_domain, view.present)
