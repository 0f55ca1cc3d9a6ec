"""The early word on a migration: one that can succeed nowhere is refused when it is asked for.

A courtesy: the gate holds without it, so whatever is not known here is let pass. Decides by the same functions as
evacuations do.
"""

from __future__ import annotations

import dataclasses

from vfio_ap.errors import Refusal
from vfio_ap.fleet.evacuation import Traffic, plan_evacuation
from vfio_ap.fleet.gate import GatePlan, Situation
from vfio_ap_kube.client import Document
from vfio_ap_kube.snapshot.migrations import migration_view
from vfio_ap_operator.fleet import Fleet

_HOPELESS = ("NoTarget", "NotMigratable")


def migration_refusal(fleet: Fleet, document: Document) -> Refusal | None:
    """Return why no node can take the VM that a VirtualMachineInstanceMigration names, None when one may.

    None as well where the VM has no matrix, is being moved already, or is not known.
    """
    metadata = {"name": "", "uid": "", **document["metadata"]}
    asked = migration_view({**document, "metadata": metadata})
    vm = fleet.work.vm_named(asked.namespace, asked.vm)
    record = fleet.matrices.get(vm.matrix) if vm is not None else None
    if vm is None or record is None or asked.move:
        return None
    source = fleet.work.gates.get(vm.matrix, GatePlan()).source
    if source is None or source.owner != vm.uid:
        return None
    wanted: dict[str, str] = (document.get("spec") or {}).get("addedNodeSelector") or {}
    nodes = {
        name: node
        for name, node in fleet.views.items()
        if name == vm.node or all(node.labels.get(key) == value for key, value in wanted.items())
    }
    situation = Situation(record.view, None, nodes, fleet.policy_for(record.view))
    wait = plan_evacuation(situation, vm, source, Traffic(), live=True).wait
    if wait is None or wait.reason not in _HOPELESS:
        return None
    return dataclasses.replace(wait, remedy=f"{wait.remedy}; see kubectl ap check vm/{vm.name} -n {vm.namespace}")
