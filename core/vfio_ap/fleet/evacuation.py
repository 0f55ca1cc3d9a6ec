"""Moving a VM off a node that is drained: prove a target, prepare it, and only then ask for the migration.

A VM whose eviction strategy is External is only marked by KubeVirt; the move is ours to make. What is decided here
is a function of what is there now: a target that was prepared a moment ago is chosen again because it holds the
device, so nothing need be remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import Answer, candidates, nowhere
from vfio_ap.fleet.gate import Situation, WaitKey
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.placement import standing
from vfio_ap.fleet.policy import Budgets, PolicyView
from vfio_ap.fleet.shape import shapes
from vfio_ap.fleet.verdict import GuestFacts, Mode
from vfio_ap.matrix import Matrix


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
    failure: str = ""
    """What KubeVirt says of its last migration, when that failed."""
    owner: tuple[str, str] | None = None
    """Name and UID of the VirtualMachine that it is an instance of."""
    guest: GuestFacts = field(default_factory=GuestFacts)
    external: bool = False
    """Its eviction strategy is External: its evacuation is ours to make."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def stale_strategy(vm: VmView, policy: PolicyView) -> str:
    """Return what to say of a VM that was started under another policy, the empty text when there is nothing.

    KubeVirt freezes a VMI's eviction strategy when it starts. Nothing is said where no policy was written.
    """
    ours = policy.evacuation == "Operator"
    if not policy.name or vm.external is ours:
        return ""
    now = "the operator" if vm.external else "KubeVirt"
    then = "the operator" if ours else "KubeVirt"
    return f"{now} evacuates it as when it started; {then}, as policy {policy.name} says, from its next start"


@dataclass(frozen=True, slots=True)
class Evacuation:
    """What to do for one marked VM."""

    prepare: frozenset[str] = frozenset()
    """Nodes that shall hold the device for the move."""
    shapes: Mapping[str, Matrix] = field(default_factory=dict)
    """As in a Claim."""
    start: str = ""
    """Node to ask the migration for, or to start the VM on, once it may begin."""
    mode: str = ""
    """How the VM goes to the node that is prepared: ``Live`` or ``Restart``."""
    wait: Refusal | None = None
    answers: tuple[Answer, ...] = ()
    """Of each node, why the VM could or could not go there."""
    timed: frozenset[WaitKey] = frozenset()
    patience: float | None = None
    """As in a GatePlan."""

    def __or__(self, other: Evacuation) -> Evacuation:
        """Return what both need of the nodes and of time."""
        waits = [p for p in (self.patience, other.patience) if p is not None]
        return Evacuation(
            self.prepare | other.prepare,
            {**self.shapes, **other.shapes},
            timed=self.timed | other.timed,
            patience=min(waits, default=None),
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Moves that are under way: how many leave and enter each node, and how many there are."""

    leaving: Counter[str] = field(default_factory=Counter)
    entering: Counter[str] = field(default_factory=Counter)
    total: int = 0

    @classmethod
    def of(cls, moves: Iterable[tuple[str, str]]) -> Traffic:
        """Return the traffic of moves, each from one node to another."""
        pairs = list(moves)
        return cls(Counter(s for s, _ in pairs), Counter(t for _, t in pairs), len(pairs))

    def refusal(self, source: str, target: str, budgets: Budgets) -> Refusal | None:
        """Return which budget has no room for one more move."""
        for what, used, most in (
            (f"moves away from node {source}", self.leaving[source], budgets.per_source),
            (f"moves to node {target}", self.entering[target], budgets.per_target),
            ("moves in the cluster", self.total, budgets.cluster),
        ):
            if used >= most:
                return Refusal("Budget", source, f"{used} of {most} {what} are under way")
        return None


def ways_of(vm: VmView, policy: PolicyView) -> tuple[Mode, ...]:
    """Return the modes that the policy allows in which the operator can move the VM."""
    able = {Mode.LIVE: vm.migratable, Mode.RESTART: vm.owner is not None}
    return tuple(mode for mode in map(Mode, policy.modes) if able.get(mode))


def plan_evacuation(
    situation: Situation, vm: VmView, source: PodView, traffic: Traffic, node: str = "", *, live: bool = False
) -> Evacuation:
    """Return the next step for a VM that shall move and does not yet; ``source`` is the pod it runs in.

    With a ``node`` only that one is a target; ``live`` asks about a live migration alone.
    """
    matrix, policy = replace(situation.matrix, deleting=False), situation.policy
    if situation.refusal is not None:
        return Evacuation(wait=situation.refusal)
    ways = tuple(mode for mode in ways_of(vm, policy) if mode is Mode.LIVE or not live)
    if not vm.migratable and not ways:
        text = vm.obstacle or "KubeVirt has not said that it can be migrated"
        remedy = "see the VMI's condition LiveMigratable"
        return Evacuation(wait=Refusal("NotMigratable", f"VM {vm}", text, remedy))
    limit = policy.limits.prepare
    late = frozenset(k for k, waited in situation.waited.items() if k[0] == source.uid and waited >= limit)
    nodes = situation.nodes if not node else {n: v for n, v in situation.nodes.items() if n in (node, vm.node)}
    tired = {name for _, name in late}
    answers = tuple(candidates(matrix, source.next_target(), {vm.node}, nodes, policy, tired, vm.guest, ways))
    fit = [answer.node for answer in answers if answer.refusal is None]
    if not fit:
        if node and node not in nodes:
            text = "there is no such node with an AP bus"
            return Evacuation(wait=Refusal("NoTarget", node, text, "see kubectl get apnodes"))
        others = [answer for answer in answers if answer.node != vm.node]
        remedy = "give a node what is missing, or stop the VM; the move goes on by itself"
        return Evacuation(wait=nowhere("NoTarget", f"VM {vm}", others, remedy), answers=answers)
    full = {target: traffic.refusal(vm.node, target, policy.budgets) for target in fit}
    best = next((target for target in fit if full[target] is None), "")
    if not best:
        return Evacuation(wait=full[fit[0]], answers=answers)
    mode = next(answer.mode for answer in answers if answer.node == best)
    made = shapes(matrix, (vm.node,), best, nodes) if mode == Mode.LIVE.value else {}
    found = standing(nodes[best], matrix, None, made.get(best))
    if found is not None and found.state == "Ready":
        return Evacuation(frozenset({best}), made, start=best, mode=mode, answers=answers)
    text = found.message if found is not None and found.message else "the device is being made"
    key = (source.uid, best)
    left = limit - situation.waited.get(key, 0.0)
    return Evacuation(
        frozenset({best}),
        made,
        mode=mode,
        wait=Refusal("Preparing", f"node {best}", text),
        answers=answers,
        timed=late | {key},
        patience=left if left > 0 else None,
    )
