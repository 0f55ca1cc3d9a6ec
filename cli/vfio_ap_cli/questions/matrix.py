"""Where an APMatrix stands, node by node, and who uses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vfio_ap.fleet.placement import Group, Standing, standing, standings
from vfio_ap.fleet.summary import Summary, summarise
from vfio_ap.fleet.views import MatrixView, Variant
from vfio_ap.matrix import Matrix
from vfio_ap_cli.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One matrix in a line."""

    name: str
    adapters: str
    domains: str
    placement: str
    ready: str
    """Nodes that have or could have it / nodes it is meant for."""
    used_by: str
    """VMs that have it, by namespace and name."""
    state: str
    message: str = ""
    uuid: str = ""
    control_domains: str = ""
    namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodRow:
    """One launcher pod that asks for the matrix."""

    pod: str
    vm: str
    node: str
    state: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class MatrixAnswer:
    """One matrix whole."""

    row: MatrixRow
    queues: int
    selector: dict[str, str]
    created: str
    variants: tuple[str, ...]
    """Other ids for other nodes, as text."""
    expected_keys: dict[str, str]
    nodes: tuple[Standing, ...]
    pods: tuple[PodRow, ...]
    conditions: tuple[str, ...]
    """What the operator wrote and is not computed here, or differs from what is seen now."""


def rows(snapshot: Snapshot) -> list[MatrixRow]:
    """Return all matrices by name."""
    return [_row(snapshot, snapshot.matrices[name]) for name in sorted(snapshot.matrices)]


def answer(snapshot: Snapshot, name: str) -> MatrixAnswer | None:
    """Return one matrix, None when it is not there."""
    view = snapshot.matrices.get(name)
    if view is None:
        return None
    stands = where(snapshot, view)
    return MatrixAnswer(
        row=_row(snapshot, view),
        queues=len(view.matrix),
        selector=dict(view.selector),
        created=view.created,
        variants=tuple(_variant(variant) for variant in view.variants),
        expected_keys=dict(view.expected),
        nodes=tuple(stands),
        pods=tuple(_pods(snapshot, name)),
        conditions=tuple(_conditions(snapshot, view)),
    )


def where(snapshot: Snapshot, view: MatrixView) -> list[Standing]:
    """Return how a matrix stands on each node that it concerns, by node."""
    refusal = snapshot.refusals.get(view.name)
    found: list[Standing] = []
    for _, node in sorted(snapshot.nodes.items()):
        item = standing(node, view, refusal)
        if item is None:
            continue
        held = view.uuid in node.mdevs or any(wish.matrix == view.name for wish in node.desired)
        if refusal is None and snapshot.guard is not None and not held:
            item = replace(item, state="Pending", reason=snapshot.guard.reason, message=str(snapshot.guard))
        found.append(item)
    return found


def summary(snapshot: Snapshot, view: MatrixView) -> Summary:
    """Return how it stands as a whole, by the rules that the operator's status follows.

    Nodes that are alike are asked once: there may be thousands of matrices on a thousand nodes.
    """
    refusal = snapshot.refusals.get(view.name)
    holding = snapshot.holding.get(view.name, frozenset()) | snapshot.holding.get(view.uuid or "none", frozenset())
    holders = [snapshot.nodes[name] for name in sorted(holding)]
    found, available = standings(view, refusal, holders, _groups(snapshot, view, holding), snapshot.guard)
    return summarise(view, refusal, found, available)


def _groups(snapshot: Snapshot, view: MatrixView, holding: frozenset[str]) -> Iterable[Group]:
    """Yield the nodes that do not hold the matrix and may, alike ones with the same ids together."""
    for names in snapshot.alike:
        if not view.selector and not view.variants:
            free = tuple(name for name in names if name not in holding) if holding else names
            if free:
                yield Group(snapshot.nodes[free[0]], free)
            continue
        parts: dict[Matrix, list[str]] = {}
        for name in names:
            node = snapshot.nodes[name]
            if name not in holding and view.selects(node.labels):
                parts.setdefault(view.on(node), []).append(name)
        for part in parts.values():
            yield Group(snapshot.nodes[part[0]], tuple(part))


def users(snapshot: Snapshot, name: str) -> list[str]:
    """Return the VMs whose pods have the matrix, by namespace and name."""
    plan = snapshot.gates.get(name)
    placed = {pod.vm_name for pod in snapshot.pods.get(name, ()) if pod.node}
    return sorted(placed or ({plan.user} if plan and plan.user else set()))


def _variant(variant: Variant) -> str:
    labels = [f"{key}={value}" for key, value in sorted(variant.selector.items())]
    places = [*(f"machine {name}" for name in sorted(variant.machines)), *labels]
    return f"{variant.matrix} on {', '.join(places) or 'any node'}"


def _row(snapshot: Snapshot, view: MatrixView) -> MatrixRow:
    whole = summary(snapshot, view)
    told = next(condition for condition in reversed(whole.conditions))
    return MatrixRow(
        name=view.name,
        adapters=str(view.matrix.adapters),
        domains=str(view.matrix.domains),
        placement=view.placement.value,
        ready=f"{whole.good}/{whole.chosen}",
        used_by=",".join(users(snapshot, view.name)) or whole.used_by,
        state=whole.state,
        message="" if told.status else told.message,
        uuid=view.uuid,
        control_domains=str(view.matrix.control_domains),
        namespaces=tuple(sorted(view.namespaces)),
    )


def _pods(snapshot: Snapshot, name: str) -> Iterable[PodRow]:
    """Return the pods in the order in which they get the matrix, each with what holds it."""
    plan = snapshot.gates.get(name)
    waits = {wait.pod.uid: wait.refusal for wait in plan.waits} if plan else {}
    for pod in sorted(snapshot.pods.get(name, ()), key=lambda pod: (not pod.node, pod.created, pod.uid)):
        wait = waits.get(pod.uid)
        state = "Waiting" if wait else "Gated" if pod.gated else "Held" if pod.held else "Placed"
        yield PodRow(str(pod), pod.vm_name, pod.node, state, str(wait) if wait else "")


def _conditions(snapshot: Snapshot, view: MatrixView) -> Iterable[str]:
    document = snapshot.documents.one("APMatrix", view.name) or {}
    now = {verdict.type: verdict for verdict in summary(snapshot, view).conditions}
    for condition in (document.get("status") or {}).get("conditions") or []:
        kind, status, reason = (condition.get(key) for key in ("type", "status", "reason"))
        text = f"{kind} is {status} ({reason}): {condition.get('message') or ''}".rstrip(": ")
        seen = now.get(str(kind))
        if seen is None and status == "False":
            yield text
        elif seen is not None and str(seen.status) != status:
            yield f"the operator's status still says: {text}"
