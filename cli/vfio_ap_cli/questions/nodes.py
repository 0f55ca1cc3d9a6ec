"""The nodes with an AP bus: what each has, what its kernel can do, whether its agent lives."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfio_ap.fleet.views import NodeView
from vfio_ap_api.apnode import APNodeStatus, MdevStatus
from vfio_ap_cli.snapshot import Agent, Snapshot


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node in a line."""

    name: str
    machine: str = ""
    lpar: str = ""
    adapters: str = ""
    host_queues: int = 0
    guest_queues: int = 0
    mdevs: str = ""
    live: str = ""
    agent: str = ""
    """``alive``, ``silent 5m``, ``silent`` or ``unknown``."""
    state: str = ""
    kernel: str = ""
    queue_control: str = ""
    key_sets: int = 0
    matrices: tuple[str, ...] = ()
    """Matrices whose device it holds."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One mediated device of a node."""

    uuid: str
    matrix: str = ""
    adapters: str = ""
    domains: str = ""
    control_domains: str = ""
    state: str = ""
    in_use: bool = False
    user: str = ""
    """Namespace and name of the VM that has it."""
    offered: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """Which queues hold which master keys."""

    adapter: int
    type: str
    serial: str
    domains: str
    set: str
    sampled: str
    patterns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """One node whole; the grid is made of ``status``."""

    row: NodeRow
    status: APNodeStatus
    devices: tuple[DeviceRow, ...] = ()
    keys: tuple[KeyRow, ...] = ()
    reserved: tuple[str, ...] = ()
    """Queues that never leave the host."""
    conditions: tuple[str, ...] = ()
    """Those that are not as they should be, as sentences."""


def rows(snapshot: Snapshot) -> list[NodeRow]:
    """Return all nodes by name."""
    return [_row(snapshot, name) for name in sorted(snapshot.nodes)]


def answer(snapshot: Snapshot, name: str) -> NodeAnswer | None:
    """Return one node, None when it is not there."""
    if name not in snapshot.nodes:
        return None
    status = snapshot.statuses.get(name, APNodeStatus())
    document = snapshot.documents.one("APNode", name) or {}
    reserved = (document.get("spec") or {}).get("hostReserved") or []
    return NodeAnswer(
        row=_row(snapshot, name),
        status=status,
        devices=tuple(_device(snapshot, name, mdev) for mdev in status.mdevs),
        keys=tuple(_keys(status)),
        reserved=tuple(f"adapters {item.get('adapters')} x domains {item.get('domains')}" for item in reserved),
        conditions=tuple(
            f"{c.type} is {c.status} ({c.reason}){': ' + c.message if c.message else ''}"
            for c in status.conditions
            if c.status != "True"
        ),
    )


def said(agent: Agent) -> str:
    """Return whether an agent lives, in a word or two."""
    if not agent.known:
        return "unknown"
    if agent.alive:
        return "alive"
    return "silent" if agent.age is None else f"silent {span(agent.age)}"


def span(seconds: float) -> str:
    """Return a length of time as kubectl writes ages."""
    number = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if number >= 2 * size:
            return f"{number // size}{unit}"
    return f"{number}s"


def _row(snapshot: Snapshot, name: str) -> NodeRow:
    view, agent = snapshot.nodes[name], snapshot.agents[name]
    status = snapshot.statuses.get(name)
    if status is None:
        return NodeRow(name, agent=said(agent), state="NotReady (UnreadableStatus)")
    return NodeRow(
        name=name,
        machine=status.machine.id,
        lpar=status.machine.lpar,
        adapters=status.summary.get("adapters", ""),
        host_queues=status.host_queues,
        guest_queues=status.guest_queues,
        mdevs=status.summary.get("mdevs", ""),
        live=status.kernel.live_migration,
        agent=said(agent),
        state=_state(snapshot, view, status),
        kernel=status.kernel.release,
        queue_control=status.kernel.queue_control,
        key_sets=len(status.key_sets),
        matrices=tuple(sorted({mdev.matrix for mdev in status.mdevs if mdev.matrix})),
    )


def _state(snapshot: Snapshot, view: NodeView, status: APNodeStatus) -> str:
    """Return the agent's word, unless nobody has heard of the agent: then its word is history."""
    agent, word = snapshot.agents[view.name], status.summary.get("state", "")
    if agent.known and not agent.alive:
        return f"unknown (AgentSilent; was {word})" if word else "unknown (AgentSilent)"
    if not view.alive and "Node" in snapshot.documents.kinds:
        return f"unknown (NodeNotReady; was {word})"
    return word or "unknown (NotReported)"


def _device(snapshot: Snapshot, node: str, mdev: MdevStatus) -> DeviceRow:
    pods = snapshot.pods.get(mdev.matrix, ())
    user = next((pod.vm_name for pod in pods if pod.node == node), "")
    return DeviceRow(
        uuid=mdev.uuid,
        matrix=mdev.matrix,
        adapters=mdev.adapters,
        domains=mdev.domains,
        control_domains=mdev.control_domains,
        state=mdev.state,
        in_use=mdev.in_use,
        user=user,
        offered=mdev.offered,
        message=mdev.message,
    )


def _keys(status: APNodeStatus) -> list[KeyRow]:
    patterns = {keys.name: keys.patterns for keys in status.key_sets}
    return [
        KeyRow(
            adapter=adapter.id,
            type=adapter.type,
            serial=adapter.serial,
            domains=use.domains,
            set=use.set,
            sampled=use.sampled,
            patterns=dict(patterns.get(use.set, {})),
        )
        for adapter in status.adapters
        for use in adapter.keys
    ]
