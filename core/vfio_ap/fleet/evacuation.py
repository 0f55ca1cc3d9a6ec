"""Moving a VM off a node that is drained: prove a target, prepare it, and only then ask for the migration.

A VM whose eviction strategy is External is only marked by KubeVirt; the move is ours to make. What is decided here
is a function of what is there now: a target that was prepared a moment ago is chosen again because it holds the
device, so nothing need be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import HOSTNAME, PodView, candidates
from vfio_ap.fleet.placement import standing
from vfio_ap.fleet.views import MatrixView, NodeView


@dataclass(frozen=True, slots=True)
class VmView:
    """One running VM with a matrix."""

    namespace: str
    name: str
    uid: str
    matrix: str
    node: str
    """Where it runs."""
    evacuating: bool = False
    """KubeVirt marked it: the node is being drained."""
    migratable: bool = False
    obstacle: str = ""
    """Why KubeVirt would not migrate it."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Evacuation:
    """What to do for one marked VM."""

    prepare: frozenset[str] = frozenset()
    """Nodes that shall hold the device for the move."""
    start: str = ""
    """Node to ask the migration for, once it may begin."""
    wait: Refusal | None = None


def plan_evacuation(matrix: MatrixView, vm: VmView, source: PodView, nodes: Mapping[str, NodeView]) -> Evacuation:
    """Return the next step for a marked VM that is not being moved yet; ``source`` is the pod it runs in."""
    if not vm.migratable:
        text = vm.obstacle or "KubeVirt has not said that it can be migrated"
        return Evacuation(
            wait=Refusal("NotMigratable", f"VM {vm}", text, "see the VMI's condition LiveMigratable")
        )
    fit, reasons = candidates(matrix, _unpinned(source), {vm.node}, nodes)
    if not fit:
        shown = "; ".join(reasons[:5]) or "there is no other node with an AP bus"
        remedy = "give a node what is missing, or stop the VM; the drain goes on by itself"
        return Evacuation(wait=Refusal("NoTarget", f"VM {vm}", f"no node can take it: {shown}", remedy))
    found = standing(fit[0], matrix, None)
    if found is not None and found.state == "Ready":
        return Evacuation(frozenset({fit[0].name}), start=fit[0].name)
    text = found.message if found is not None and found.message else "the device is being made"
    return Evacuation(frozenset({fit[0].name}), wait=Refusal("Preparing", f"node {fit[0].name}", text))


def _unpinned(pod: PodView) -> PodView:
    """Return the pod as the next target will be, without the pin of the move that brought it here."""
    selector = {key: value for key, value in pod.constraints.selector.items() if key != HOSTNAME or not pod.target}
    return replace(pod, target=True, constraints=replace(pod.constraints, selector=selector))
