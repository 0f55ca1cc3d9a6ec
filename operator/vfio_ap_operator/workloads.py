"""The VMs with a matrix, their pods and moves, as the watches brought them, and each matrix's last plan.

Tells which matrix a change concerns; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vfio_ap.fleet.evacuation import Traffic, VmView
from vfio_ap.fleet.gate import GatePlan
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.moves import MigrationView, MoveView
from vfio_ap_kube.snapshot import migrations, pods, vmis
from vfio_ap_operator.index import Index


class Workloads:
    """Everything that uses matrices; ``touch`` is called with each matrix that a change concerns."""

    def __init__(self, touch: Callable[[str], None]) -> None:
        self._touch = touch
        self.pods: dict[str, dict[str, PodView]] = {}
        """By matrix and UID, the pods that ask for it and have not ended."""
        self.vms: dict[str, VmView] = {}
        """By UID, running VMs with a matrix."""
        self.migrations: dict[str, MigrationView] = {}
        """By UID, KubeVirt's migrations of any VM."""
        self.moves: dict[str, MoveView] = {}
        """By UID, the APMigration objects."""
        self.documents: dict[str, dict[str, Any]] = {}
        """By UID, metadata and status of the APMigration objects that have not ended."""
        self.complete = False
        """The running VMs were listed, so one that is not known does not run."""
        self.gates: dict[str, GatePlan] = {}
        """By matrix, what was last decided for its pods."""
        self.strays: set[str] = set()
        """UIDs of moves to be looked at whose VM has no matrix that is known."""
        self._vms: Index[str] = Index()
        """UIDs of VMs by matrix, and by namespace and name."""
        self._migrations: Index[str] = Index()
        """UIDs of migrations by namespace and name of the VM."""
        self._moves: Index[str] = Index()
        """UIDs of moves by namespace and name of the VM."""
        self._permitted: Index[str] = Index()
        """Matrices by namespace of the VM that runs with them."""

    # -- questions

    def vms_of(self, matrix: str) -> list[VmView]:
        """Return the running VMs that have, or wait for, a matrix."""
        return [self.vms[uid] for uid in sorted(self._vms.find(f"matrix {matrix}"))]

    def vm_named(self, namespace: str, name: str) -> VmView | None:
        """Return a running VM with a matrix."""
        return next((self.vms[uid] for uid in self._vms.find(f"{namespace}/{name}")), None)

    def migrations_of(self, vm: VmView) -> list[MigrationView]:
        """Return KubeVirt's migrations of a VM."""
        return [self.migrations[uid] for uid in sorted(self._migrations.find(str(vm)))]

    def moves_of(self, namespace: str, vm: str) -> list[MoveView]:
        """Return the moves of a VM, the oldest first."""
        found = [self.moves[uid] for uid in self._moves.find(f"{namespace}/{vm}")]
        return sorted(found, key=lambda move: (move.created, move.name))

    def migration_for(self, move: MoveView) -> MigrationView | None:
        """Return the migration that a move is, or that was made for it."""
        wanted = move.status.migration_uid
        found = [self.migrations[uid] for uid in sorted(self._migrations.find(f"{move.namespace}/{move.vm}"))]
        return next((m for m in found if m.uid == wanted or (not wanted and m.move == move.name)), None)

    def restarting(self, matrix: str) -> list[MoveView]:
        """Return the moves by which VMs with the matrix are being started elsewhere."""
        found = (self.moves[uid] for uid in self.documents)
        return [move for move in found if move.status.restarting and move.status.matrix == matrix]

    def bound(self, matrix: str) -> str:
        """Return the node that a VM with the matrix is restarted on, empty when none is."""
        return next((move.status.target for move in self.restarting(matrix)), "")

    def traffic(self) -> Traffic:
        """Return the moves that are under way."""
        begun = (m.status for m in self.moves.values() if m.status.migration_uid or m.status.restarting)
        under_way = [status for status in begun if not status.over]
        return Traffic.of((status.source, status.target) for status in under_way)

    def needed_in(self, namespace: str) -> set[str]:
        """Return the matrices that VMs of a namespace run with, allowed or not."""
        return self._permitted.find(namespace)

    def going_somewhere(self) -> set[str]:
        """Return the matrices whose VM is being placed or moved, or is to be."""
        found = {m for m, pods in self.pods.items() if any(not pod.node or pod.migration for pod in pods.values())}
        found |= {vm.matrix for vm in self.vms.values() if vm.evacuating}
        for uid in self.documents:
            if vm := self.vm_named(self.moves[uid].namespace, self.moves[uid].vm):
                found.add(vm.matrix)
        return found

    # -- changes

    def observe_pod(self, document: dict[str, Any]) -> None:
        """Take in a pod that asks for a matrix; one that has ended asks no more."""
        view = pods.pod_view(document)
        if view is None:
            self.forget_pod(document)
        elif self.pods.get(view.matrix, {}).get(view.uid) != view:
            self.pods.setdefault(view.matrix, {})[view.uid] = view
            self._touch(view.matrix)

    def forget_pod(self, document: dict[str, Any]) -> None:
        """Drop a pod that is gone or has ended."""
        uid = document["metadata"]["uid"]
        for matrix in [matrix for matrix, known in self.pods.items() if uid in known]:
            del self.pods[matrix][uid]
            if not self.pods[matrix]:
                del self.pods[matrix]
            self._touch(matrix)

    def observe_vm(self, document: dict[str, Any]) -> None:
        """Take in a VMI with a matrix as it is now."""
        uid = document["metadata"]["uid"]
        self._put_vm(uid, vmis.vm_view(document))

    def forget_vm(self, document: dict[str, Any]) -> None:
        """Drop a VMI that is gone."""
        known = self.vms.get(document["metadata"]["uid"])
        self._put_vm(document["metadata"]["uid"], None)
        if known is not None:
            self.strays |= {m.uid for m in self.moves_of(known.namespace, known.name) if not m.status.over}

    def _put_vm(self, uid: str, view: VmView | None) -> None:
        before = self.vms.pop(uid, None)
        if view is not None:
            self.vms[uid] = view
        self._vms.put(uid, {f"matrix {view.matrix}", str(view)} if view else ())
        if view != before:
            for known in (before, view):
                if known is not None:
                    self._touch(known.matrix)

    def observe_migration(self, document: dict[str, Any]) -> None:
        """Take in a migration of KubeVirt's as it is now."""
        view = migrations.migration_view(document)
        if self.migrations.get(view.uid) != view:
            self.migrations[view.uid] = view
            self._migrations.put(view.uid, {f"{view.namespace}/{view.vm}"})
            self._touch_vm(view.namespace, view.vm)

    def forget_migration(self, document: dict[str, Any]) -> None:
        """Drop a migration that is gone."""
        if view := self.migrations.pop(document["metadata"]["uid"], None):
            self._migrations.put(view.uid, ())
            self._touch_vm(view.namespace, view.vm)

    def observe_move(self, document: dict[str, Any]) -> None:
        """Take in an APMigration as it is now."""
        view = migrations.move_view(document)
        if view is None:
            self.forget_move(document)
            return
        self.documents.pop(view.uid, None)
        if not view.status.over:
            self.documents[view.uid] = {key: document.get(key) or {} for key in ("metadata", "status")}
        if self.moves.get(view.uid) != view:
            self.moves[view.uid] = view
            self._moves.put(view.uid, {f"{view.namespace}/{view.vm}"})
            self._touch_move(view)

    def forget_move(self, document: dict[str, Any]) -> None:
        """Drop an APMigration that is gone."""
        self.documents.pop(document["metadata"]["uid"], None)
        if view := self.moves.pop(document["metadata"]["uid"], None):
            self._moves.put(view.uid, ())
            self._touch_move(view)

    def decide_gate(self, matrix: str, plan: GatePlan) -> tuple[frozenset[str], frozenset[str]]:
        """Note what was decided for a matrix's pods; return the nodes and the namespaces that it changes."""
        before = self.gates.pop(matrix, GatePlan())
        if plan != GatePlan():
            self.gates[matrix] = plan
        self._permitted.put(matrix, {plan.namespace} if plan.namespace else ())
        nodes: frozenset[str] = frozenset()
        for old, new in (
            (before.claim.nodes, plan.claim.nodes),
            (before.claim.frozen, plan.claim.frozen),
            (before.claim.migratable, plan.claim.migratable),
        ):
            nodes |= old ^ new
        shapes = (before.claim.shapes, plan.claim.shapes)
        nodes |= {name for name in {*shapes[0], *shapes[1]} if shapes[0].get(name) != shapes[1].get(name)}
        return nodes, frozenset({before.namespace} ^ {plan.namespace}) - {""}

    def _touch_move(self, move: MoveView) -> None:
        if not self._touch_vm(move.namespace, move.vm) and move.uid in self.moves and not move.status.over:
            self.strays.add(move.uid)
            self._touch("")

    def _touch_vm(self, namespace: str, name: str) -> bool:
        """Touch the matrix of a VM; return whether there is one."""
        if vm := self.vm_named(namespace, name):
            self._touch(vm.matrix)
        return vm is not None
