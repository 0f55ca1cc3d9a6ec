"""Whether a VM can move, node by node, and why not; for a VM that does not run, where it could start.

The verdict is the operator's own. Beside it stand the pod's placement rules, as the gate applies them, and what of
the VM itself keeps it from moving at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.candidates import candidates
from vfio_ap.fleet.evacuation import VmView, ways_of
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView, policy_of
from vfio_ap.fleet.shape import shape_for
from vfio_ap.fleet.verdict import GuestFacts, Mode, MovePolicy, keys_at_start, verdict
from vfio_ap.fleet.views import MatrixView, NodeView
from vfio_ap_cli.questions.overlay import pod_to_be
from vfio_ap_cli.reading.documents import Document
from vfio_ap_cli.snapshot import Snapshot
from vfio_ap_kube.snapshot.names import MATRIX
from vfio_ap_kube.snapshot.pods import pod_view
from vfio_ap_kube.snapshot.vmis import vm_view

KINDS = ("VirtualMachine", "VirtualMachineInstance")
_ORDER = {"can move here": 0, "can start here": 0, "by hand": 1, "cannot": 2, "runs here": 3}


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """One node."""

    node: str
    answer: str
    """``can move here``, ``can start here``, ``by hand``, ``cannot`` or ``runs here``."""
    modes: tuple[Mode, ...] = ()
    """Modes in which it can, the preferred one first."""
    refusals: tuple[Refusal, ...] = ()
    """The first is the one to mend first."""
    warnings: tuple[Refusal, ...] = ()
    prepared: bool = False
    """The node has made the device already."""

    @property
    def can(self) -> bool:
        """Tell whether it is a yes."""
        return self.answer.startswith("can ")


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """One VM."""

    vm: str
    matrix: str
    queues: str = ""
    source: str = ""
    """Where it runs, empty when it does not."""
    policy: str = ""
    """Name of its APMigrationPolicy, empty for the defaults."""
    modes: tuple[Mode, ...] = ()
    adapter_type: str = ""
    master_keys: str = ""
    obstacles: tuple[Refusal, ...] = ()
    """What keeps the VM from moving anywhere."""
    nodes: tuple[NodeAnswer, ...] = ()
    asked: Mode | None = None
    """The one mode that was asked about."""

    @property
    def can(self) -> bool:
        """Tell whether it can move, or start, anywhere."""
        return not self.obstacles and any(node.can for node in self.nodes)

    @property
    def yes(self) -> bool:
        """Tell whether what was asked is so; a mode that was asked about by name need not be the operator's."""
        named = self.asked is not None and any(node.modes for node in self.nodes)
        return self.can or (named and not self.obstacles)


@dataclass(frozen=True, slots=True)
class NotAMatrixVm:
    """Why there is nothing to check."""

    message: str
    remedy: str


def answer(
    snapshot: Snapshot, namespace: str, name: str, node: str = "", mode: Mode | None = None
) -> CheckAnswer | NotAMatrixVm:
    """Return where a VM can go; ``node`` and ``mode`` ask about one alone."""
    documents = snapshot.documents
    vmi = documents.one("VirtualMachineInstance", name, namespace)
    vm = documents.one("VirtualMachine", name, namespace)
    if vmi is None and vm is None:
        return NotAMatrixVm(
            f"there is no VM {namespace}/{name}", "see kubectl get vm -A; name its namespace with -n"
        )
    matrix_name = asked_for(vm, vmi)
    if not matrix_name:
        text = f"VM {namespace}/{name} asks for no matrix"
        return NotAMatrixVm(text, f"the annotation {MATRIX} on its template names one")
    matrix = snapshot.matrices.get(matrix_name)
    if matrix is None:
        return NotAMatrixVm(
            f"VM {namespace}/{name} asks for matrix {matrix_name}, which does not exist", "make it"
        )
    policy = policy_of(matrix, snapshot.policies, PolicyView())
    launcher = _launcher(snapshot, matrix_name, namespace, name)
    runs = launcher is not None and launcher.node != ""
    view = vm_view(vmi) if vmi is not None else None
    ways = ways_of(view, policy) if view is not None else ()
    modes = (mode,) if mode is not None else tuple(Mode(word) for word in policy.modes)
    found: Iterable[NodeAnswer]
    if runs:
        assert launcher is not None
        rules = MovePolicy(modes, policy.adapter_type, policy.master_keys)
        source, facts = snapshot.nodes.get(launcher.node), _facts(vmi)
        found = [
            _move(snapshot, matrix, launcher, source, target, rules, facts, ways)
            for target in snapshot.nodes.values()
        ]
    else:
        pod = launcher or pod_view(pod_to_be(vm or vmi or {}, matrix_name, 0))
        assert pod is not None
        found = [
            NodeAnswer(
                item.node,
                "cannot" if item.refusal else "can start here",
                refusals=(item.refusal,) if item.refusal else (),
                warnings=_at_start(matrix, snapshot.nodes[item.node]) if item.warnings else (),
                prepared=item.holds,
            )
            for item in candidates(matrix, pod, (), snapshot.nodes, policy)
        ]
    return CheckAnswer(
        vm=f"{namespace}/{name}",
        matrix=matrix_name,
        queues=str(matrix.matrix),
        source=launcher.node if launcher is not None else "",
        policy=policy.name,
        modes=modes,
        adapter_type=policy.adapter_type,
        master_keys=policy.master_keys,
        obstacles=tuple(_obstacles(snapshot, matrix, namespace, view, launcher, runs=runs, ways=ways)),
        asked=mode,
        nodes=tuple(sorted((n for n in found if node in ("", n.node)), key=lambda n: (_ORDER[n.answer], n.node))),
    )


def asked_for(vm: Document | None, vmi: Document | None) -> str:
    """Return the matrix that a VM has or asks for: a running one's own word counts, not its template's."""
    for document in (vmi, ((vm or {}).get("spec") or {}).get("template")):
        annotations = ((document or {}).get("metadata") or {}).get("annotations") or {}
        if annotations.get(MATRIX):
            return str(annotations[MATRIX])
    return ""


def _launcher(snapshot: Snapshot, matrix: str, namespace: str, name: str) -> PodView | None:
    """Return the pod that the VM runs in, else one that waits; a migration's target is not asked."""
    mine = [pod for pod in snapshot.pods.get(matrix, ()) if pod.namespace == namespace and pod.vm == name]
    mine.sort(key=lambda pod: (pod.target, not pod.node, pod.created))
    return mine[0] if mine else None


def _at_start(matrix: MatrixView, node: NodeView) -> tuple[Refusal, ...]:
    """Return what to know of a node's master keys before a VM starts there."""
    return tuple(item.refusal for item in keys_at_start(matrix, node))


def _facts(vmi: Document | None) -> GuestFacts:
    """Return what of the guest matters. Post-copy is off: our admission turns it off for VMs with a matrix."""
    view = vm_view(vmi) if vmi is not None else None
    return view.guest if view is not None else GuestFacts()


def _move(
    snapshot: Snapshot,
    matrix: MatrixView,
    pod: PodView,
    source: NodeView | None,
    target: NodeView,
    rules: MovePolicy,
    facts: GuestFacts,
    ways: Collection[Mode],
) -> NodeAnswer:
    held = target.mdevs.get(matrix.uuid)
    # What was made for another purpose is made anew for a move, so it is not what the answer rests on.
    shall = shape_for(matrix, source, target) or matrix.on(target)
    prepared = held is not None and held.state == "Ready" and held.configuration == shall
    if source is None:
        refusal = Refusal("SourceUnknown", pod.node, "the VM runs there, and nothing is known of the node")
        return NodeAnswer(target.name, "cannot", refusals=(refusal,))
    if source.name == target.name:
        return NodeAnswer(target.name, "runs here", prepared=prepared)
    others = [
        other
        for other in snapshot.matrices.values()
        if other.name != matrix.name
        and (other.uuid in target.mdevs or any(item.matrix == other.name for item in target.desired))
    ]
    found = verdict(matrix, source, target, rules, facts, others=others, prepared=prepared)
    placing = pod.next_target().constraints.refusal(target.name, target.labels, target.taints)
    refusals = found.refusals
    if placing:
        refusals = (
            *refusals,
            Refusal("NotSchedulable", target.name, placing, "see the VM's nodeSelector, affinity and tolerations"),
        )
    modes = () if placing else found.modes
    word = "can move here" if any(mode in ways for mode in modes) else "by hand" if modes else "cannot"
    return NodeAnswer(target.name, word, modes, refusals, found.warnings, prepared)


def _obstacles(
    snapshot: Snapshot,
    matrix: MatrixView,
    namespace: str,
    view: VmView | None,
    launcher: PodView | None,
    *,
    runs: bool,
    ways: Collection[Mode],
) -> Iterable[Refusal]:
    if refusal := snapshot.refusals.get(matrix.name):
        yield refusal
    if snapshot.guard is not None:
        yield snapshot.guard
    if not runs:
        first = next((pod for pod in snapshot.pods.get(matrix.name, ()) if pod.node), None)
        if namespace not in matrix.namespaces:
            text = f"namespace {namespace} may not use it"
            yield Refusal("NamespaceNotAllowed", matrix.name, text, "add it to spec.allowedNamespaces")
        if first is not None and first is not launcher:
            text = f"VM {first.vm_name} has it, and one VM has a matrix at a time"
            yield Refusal("MatrixInUse", matrix.name, text, "stop that VM, or give this one a matrix of its own")
        return
    if view is not None and not view.migratable and not ways:
        text = view.obstacle or "KubeVirt has not said that it can be migrated"
        yield Refusal("NotMigratable", f"VM {view}", text, "see the VMI's condition LiveMigratable")
