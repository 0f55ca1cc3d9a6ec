"""What files would change where, before they are applied; computed by the operator's and the agent's own planning.

The masks are planned from what each node's status says. Which bits of them are our own doing is the agent's book,
which is not in the status; here a cleared bit counts as ours when a device of ours has its adapter or domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.fleet.gate import GatePlan
from vfio_ap.fleet.placement import Claim, desired_mdevs, standing
from vfio_ap.fleet.policy import overruled
from vfio_ap.fleet.views import Desired, MatrixView, NodeView, Placement
from vfio_ap.host import whynot
from vfio_ap.host.masks import HostMasks
from vfio_ap.host.release import Release, ReleaseProblem, plan_release
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_api.apnode import APNodeSpec
from vfio_ap_cli.questions.matrix import users
from vfio_ap_cli.questions.overlay import Wanted, assigned, overlaid
from vfio_ap_cli.reading.documents import Document, Documents
from vfio_ap_cli.snapshot import Snapshot, snapshot


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """One device of one node."""

    verb: str
    """``add``, ``change``, ``remove``, or ``would add``: only once a VM asks for it."""
    matrix: str
    uuid: str
    now: str = ""
    then: str = ""
    used_by: str = ""


@dataclass(frozen=True, slots=True)
class MaskEffect:
    """What the masks would do."""

    leave: int
    """Queues that leave the host, wanted or along; negative where queues come back."""
    along: int = 0
    """Of all queues off the host then, those that no matrix wants."""
    queues: str = ""
    """Which ones."""
    exact: bool = True
    """No masks release fewer."""
    at_least: int = 0
    by_override: bool = False
    """The node gives queues away one by one: nothing leaves along."""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What would change on one node."""

    node: str
    devices: tuple[DeviceChange, ...] = ()
    masks: MaskEffect | None = None
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What would become of one object of the files."""

    object: str
    verb: str
    uuid: str = ""
    refusal: Refusal | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """Everything that the files would change."""

    objects: tuple[ObjectChange, ...]
    nodes: tuple[NodeChange, ...]
    same: tuple[str, ...] = ()
    """Nodes on which nothing changes."""
    waits: tuple[Refusal, ...] = ()
    """Why VMs would have to wait."""
    guard: Refusal | None = None
    """Why the operator provisions nothing at all now."""
    strangers: tuple[str, ...] = ()
    """Objects of the files that are not of this product."""

    @property
    def refused(self) -> bool:
        """Tell whether anything would be refused."""
        objects = any(item.refusal for item in self.objects)
        return bool(objects or self.waits or self.guard or any(node.refusals for node in self.nodes))


def answer(now: Documents, files: Iterable[Document], namespace: str) -> PlanAnswer:
    """Return what applying the files would change.

    A guard of the operator's is told, and apart from that things are planned as if it were content.
    """
    before = snapshot(now, guarded=False)
    documents, wanted, strangers = overlaid(now, files, namespace)
    after = snapshot(documents, guarded=False)
    names = {item.name for item in wanted if item.kind == "APMatrix"}
    names |= {item.matrix for item in wanted if item.matrix}
    touched = names | {name for name in after.refusals if after.refusals[name] != before.refusals.get(name)}
    found = [_node(before, after, name, touched) for name in sorted(after.nodes)]
    changed = [item for item in found if item.devices or item.masks or item.refusals]
    return PlanAnswer(
        objects=(*(_object(before, after, item) for item in wanted), *_victims(before, after, wanted)),
        nodes=tuple(changed),
        same=tuple(item.node for item in found if item not in changed),
        waits=tuple(_waits(after, wanted)),
        guard=after.guard,
        strangers=tuple(strangers),
    )


def _object(before: Snapshot, after: Snapshot, item: Wanted) -> ObjectChange:
    name = f"{item.kind.lower()}/{item.name}"
    if item.kind == "APMatrix" and item.refusal is None:
        view = after.matrices[item.name]
        return ObjectChange(
            name, item.verb, assigned(view.uuid), after.refusals.get(item.name), tuple(_notes(before, after, view))
        )
    if item.kind == "APMigrationPolicy" and item.refusal is None:
        policy = next(policy for policy in after.policies if policy.name == item.name)
        refusal = overruled(policy, after.matrices.values(), after.policies)
        return ObjectChange(name, item.verb, refusal=refusal)
    if item.matrix and item.refusal is None:
        return ObjectChange(name, item.verb, notes=(f"asks for matrix {item.matrix}",))
    return ObjectChange(name, item.verb, refusal=item.refusal)


def _notes(before: Snapshot, after: Snapshot, view: MatrixView) -> Iterable[str]:
    known = {document["metadata"]["name"] for document in after.documents.of("Namespace")}
    if "Namespace" in after.documents.kinds and (absent := sorted(view.namespaces - known)):
        yield f"namespaces that do not exist: {', '.join(absent)}"
    old = before.matrices.get(view.name)
    if old is not None and (gone := sorted(old.namespaces - view.namespaces)):
        yield f"namespaces that lose it: {', '.join(gone)}"
    if user := ", ".join(users(before, view.name)):
        yield f"used by {user}"
    if view.placement is Placement.ON_DEMAND and not after.gates.get(view.name, GatePlan()).claim.nodes:
        yield "made on demand: no device is made before a VM asks for it"
    if view.placement is Placement.EVERYWHERE and view.name not in after.refusals:
        chosen = [node for node in after.nodes.values() if node.reported and view.selects(node.labels)]
        bare = sorted(node.name for node in chosen if not len(view.on(node).overlap(node.present)))
        if bare:
            yield f"Ready only once they have one of its queues: {', '.join(bare)} (NothingPresent)"


def _victims(before: Snapshot, after: Snapshot, wanted: Iterable[Wanted]) -> Iterable[ObjectChange]:
    """Yield matrices that are not in the files and would be refused because of them, or no more."""
    named = {item.name for item in wanted if item.kind == "APMatrix"}
    for name in sorted(after.matrices.keys() - named):
        if after.refusals.get(name) is not None and name not in before.refusals:
            yield ObjectChange(f"apmatrix/{name}", "would be refused", refusal=after.refusals[name])
        elif name in before.refusals and name not in after.refusals:
            yield ObjectChange(f"apmatrix/{name}", "would stand again")


def _waits(after: Snapshot, wanted: Iterable[Wanted]) -> Iterable[Refusal]:
    """Yield why VMs of the files would not start; that a node must be prepared first is no obstacle."""
    vms = {f"{item.namespace}/{item.name}" for item in wanted if item.matrix}
    for plan in after.gates.values():
        for wait in plan.waits:
            prepared = wait.refusal.subject.startswith("node ")
            if wait.pod.vm_name in vms and not prepared:
                yield replace(wait.refusal, subject=f"VM {wait.pod.vm_name}: {wait.refusal.subject}")


def _node(before: Snapshot, after: Snapshot, name: str, touched: Iterable[str]) -> NodeChange:
    old, new = before.nodes.get(name, after.nodes[name]), after.nodes[name]
    now, then = _desired(before, old), _desired(after, new)
    devices = list(_devices(before, now, then))
    refusals = list(_refused_here(after, new, touched))
    could = [] if devices else list(_on_demand(after, new, touched, then))
    devices += [DeviceChange("would add", d.matrix, assigned(d.uuid), then=_ids(d.configuration)) for d in could]
    reserved, unreadable = _reserved(after, name)
    refusals += unreadable
    if not devices and reserved == _reserved(before, name)[0]:
        return NodeChange(name, refusals=tuple(refusals))
    effect = _masks(before, after, name, list(now.values()), [*then.values(), *could], reserved)
    if isinstance(effect, Refusal):
        refusals.append(effect)
        effect = None
    refusals += _taken(new, [*then.values(), *could], now)
    clashes = [item.configuration.overlap(kept) for item in (*then.values(), *could) for kept in reserved]
    known = {refusal.subject for refusal in refusals}
    refusals += [whynot.reserved(q.first()) for q in clashes if len(q) and str(q.first()) not in known]
    return NodeChange(name, tuple(devices), effect, tuple(refusals))


def _desired(seen: Snapshot, node: NodeView) -> dict[str, Desired]:
    """Return what the operator gives a node to hold, by UUID; a guard is told apart from it."""
    claims: Mapping[str, Claim] = {name: plan.claim for name, plan in seen.gates.items()}
    names = {name for name, claim in claims.items() if node.name in claim.nodes}
    names |= {item.matrix for item in node.desired} | seen.everywhere
    views = [view for name in names if (view := seen.matrices.get(name)) is not None and view.uuid]
    return {item.uuid: item for item in desired_mdevs(node, views, seen.refusals, claims)}


def _devices(before: Snapshot, now: Mapping[str, Desired], then: Mapping[str, Desired]) -> Iterable[DeviceChange]:
    for uuid in sorted({*now, *then}, key=lambda u: (then.get(u) or now[u]).matrix):
        old, new = now.get(uuid), then.get(uuid)
        matrix = (new or old or Desired("", "", Matrix())).matrix
        if old is not None and new is not None and old.configuration == new.configuration:
            continue
        verb = "add" if old is None else "remove" if new is None else "change"
        yield DeviceChange(
            verb,
            matrix,
            assigned(uuid),
            _ids(old.configuration) if old else "",
            _ids(new.configuration) if new else "",
            ", ".join(users(before, matrix)) if old else "",
        )


def _ids(matrix: Matrix) -> str:
    control = f", control {matrix.control_domains}" if matrix.control_domains else ""
    return f"{matrix}{control}"


def _on_demand(
    after: Snapshot, node: NodeView, touched: Iterable[str], then: Mapping[str, Desired]
) -> Iterable[Desired]:
    """Yield the devices that a VM could ask this node for."""
    for name in sorted(touched):
        view = after.matrices.get(name)
        if (
            view is None
            or view.placement is not Placement.ON_DEMAND
            or view.uuid in then
            or name in after.refusals
        ):
            continue
        found = standing(node, view, None)
        if found is not None and found.state == "Available" and not after.gates.get(name, GatePlan()).claim.nodes:
            yield Desired(view.uuid, name, view.on(node))


def _refused_here(after: Snapshot, node: NodeView, touched: Iterable[str]) -> Iterable[Refusal]:
    """Yield why a matrix of the files cannot be on this node; on demand only what no VM could change."""
    for name in sorted(touched):
        view = after.matrices.get(name)
        if view is None or name in after.refusals or not view.selects(node.labels):
            continue
        above, absent = node.limit_exceeded(view.on(node)), node.absent(view.on(node))
        if found := above or (absent if view.placement is Placement.ON_DEMAND else None):
            yield replace(found, subject=f"apmatrix/{name}")


def _reserved(seen: Snapshot, name: str) -> tuple[tuple[Matrix, ...], list[Refusal]]:
    """Return what of a node the host keeps, and what of it cannot be read."""
    document = seen.documents.one("APNode", name) or {}
    try:
        spec = APNodeSpec.model_validate(document.get("spec") or {})
        return tuple(item.matrix() for item in spec.host_reserved), []
    except RefusedError as error:
        return (), [replace(error.refusal, subject=f"hostReserved: {error.refusal.subject}")]
    except ValueError:
        return (), []


def _masks(
    before: Snapshot,
    after: Snapshot,
    name: str,
    now: list[Desired],
    then: list[Desired],
    reserved: tuple[Matrix, ...],
) -> MaskEffect | Refusal | None:
    """Return what the masks would do, why they cannot, or None where nothing is known of them."""
    status, node = after.statuses.get(name), after.nodes[name]
    if status is None or status.kernel.queue_control == "Unknown":
        return None
    foreign = [held.configuration for held in node.mdevs.values() if held.state == "Foreign"]
    old = [*(item.configuration for item in now), *foreign]
    new = [*(item.configuration for item in then), *foreign]
    if status.kernel.queue_control == "DriverOverride":
        return MaskEffect(_present(node, new) - _present(node, old), by_override=True)
    masks = HostMasks(_parsed(status.masks.adapters), _parsed(status.masks.domains))
    mine = [*(held.configuration for held in node.mdevs.values() if held.state != "Foreign"), *old]
    held_by_us = _union(mine)
    cleared = Matrix(IdSet.every() - masks.adapters, IdSet.every() - masks.domains)
    ours = Matrix(cleared.adapters & held_by_us.adapters, cleared.domains & held_by_us.domains)
    problem = ReleaseProblem(node.present, new, reserved, masks, ours, _union(new))
    found = plan_release(problem)
    if isinstance(found, Refusal):
        return found
    off = _off(node.present, masks)
    if found.released == off and not found.along_count:
        return MaskEffect(0)
    return MaskEffect(found.released - off, found.along_count, _along(found), found.exact, found.at_least)


def _present(node: NodeView, matrices: Iterable[Matrix]) -> int:
    return len({apqn for matrix in matrices for apqn in matrix if node.present.contains(apqn)})


def _off(present: Matrix, masks: HostMasks) -> int:
    """Return how many queues are off the host under these masks (kernel-ap.md K-1)."""
    kept = len(present.adapters & masks.adapters) * len(present.domains & masks.domains)
    return len(present) - kept


def _along(found: Release) -> str:
    return "; ".join(f"adapter {adapter} domains {domains}" for adapter, domains in found.along)


def _union(matrices: Iterable[Matrix]) -> Matrix:
    adapters, domains = IdSet(), IdSet()
    for matrix in matrices:
        adapters, domains = adapters | matrix.adapters, domains | matrix.domains
    return Matrix(adapters, domains)


def _parsed(text: str) -> IdSet:
    try:
        return IdSet.parse(text)
    except RefusedError:
        return IdSet.every()


def _taken(node: NodeView, then: list[Desired], now: Mapping[str, Desired]) -> Iterable[Refusal]:
    """Yield queues that a device which stays on the node has already."""
    for item in then:
        before = now.get(item.uuid)
        if before is not None and before.configuration == item.configuration:
            continue
        for uuid, held in node.mdevs.items():
            ours = any(other.uuid == uuid for other in then) or uuid in now
            common = item.configuration.overlap(held.configuration)
            if uuid != item.uuid and len(common) and not ours:
                yield whynot.taken(common.first(), uuid, foreign=held.state == "Foreign")
