"""The view of a node: its APNode document and what its Node says."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.fleet.scheduling import Taint
from vfio_ap.fleet.views import Card, Desired, HeldMdev, KeySet, KeyUse, NodeView
from vfio_ap.idset import MAX_ID, IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_api.apnode import Adapter, APNode, APNodeStatus, MdevStatus, ReservedQueues
from vfio_ap_kube.snapshot.names import RESOURCE


def node_view(
    document: dict[str, Any],
    *,
    labels: dict[str, str],
    ready: bool,
    allocatable: frozenset[str],
    taints: tuple[Taint, ...] = (),
) -> NodeView:
    """Return the view of an APNode document and what its Node says."""
    name = document["metadata"]["name"]
    try:
        node = APNode.model_validate(document)
    except ValidationError:
        # An agent of another version, or a status written by hand: what cannot be read is not known.
        return NodeView(name, labels=labels, desired=_desired(document))
    status = node.status
    present = Matrix(
        IdSet.from_ids(adapter.id for adapter in _adapters(status)),
        _ids(status.usage_domains),
        _ids(status.control_domains),
    )
    return NodeView(
        name=name,
        labels=labels,
        taints=taints,
        alive=ready,
        unready=_unready(name, status),
        max_adapter=status.kernel.max_adapter,
        max_domain=status.kernel.max_domain,
        cards={adapter.id: _hardware(adapter) for adapter in _adapters(status)},
        keys=_keys(status),
        live=status.kernel.live_migration,
        release=status.kernel.release,
        machine=status.machine.id,
        reserved=tuple(_reserved(item) for item in node.spec.host_reserved),
        present=present,
        in_advance=status.kernel.queue_control != "DriverOverride",
        desired=_desired(document),
        mdevs={mdev.uuid: _mdev(mdev, present) for mdev in status.mdevs},
        current=status.observed_generation == int(document["metadata"].get("generation", 0)),
        allocatable=allocatable,
        read_back=frozenset(node.spec.read_back.split(",")) - {""},
        kernel_log={log.uuid: tuple(log.lines) for log in status.kernel_log},
    )


def _unready(name: str, status: APNodeStatus) -> Refusal | None:
    """Return what the agent says in its condition Ready where that is not True; None before it has reported."""
    found = next((c for c in status.conditions if c.type == "Ready" and c.status != "True"), None)
    return Refusal(found.reason, name, found.message) if found is not None else None


def _adapters(status: APNodeStatus) -> list[Adapter]:
    return [adapter for adapter in status.adapters if 0 <= adapter.id <= MAX_ID]


def _hardware(adapter: Adapter) -> Card:
    domains = _ids(adapter.host) | _ids(adapter.guest) | _ids(adapter.driverless)
    modes = tuple(sorted(adapter.op_modes))
    return _card(adapter.type, adapter.functions, adapter.state, domains, _ids(adapter.bound), modes)


@functools.lru_cache(maxsize=8192)
def _card(kind: str, functions: str, state: str, domains: IdSet, bound: IdSet, modes: tuple[str, ...]) -> Card:
    """Return an adapter's hardware; one object for all that are alike, since a thousand nodes have few kinds."""
    try:
        word = int(functions, 16) if functions else None
    except ValueError:
        word = None
    return Card(kind, word, state, domains, bound, modes)


def _keys(status: APNodeStatus) -> dict[int, tuple[KeyUse, ...]]:
    """Return what is known of master keys, by adapter; a use of a set that is not told is not known."""
    sets = {
        item.name: _key_set(tuple(sorted(item.patterns.items())), tuple(sorted(item.op_modes)), item.attested)
        for item in status.key_sets
    }
    found = {}
    for adapter in _adapters(status):
        uses = tuple((use.domains, sets[use.set], use.sampled) for use in adapter.keys if use.set in sets)
        if uses:
            found[adapter.id] = _uses(uses)
    return found


@functools.lru_cache(maxsize=8192)
def _uses(uses: tuple[tuple[str, KeySet, str], ...]) -> tuple[KeyUse, ...]:
    """Return the uses of an adapter; one object for all that are alike, as the adapters of a node mostly are."""
    return tuple(KeyUse(_ids(domains), keys, sampled) for domains, keys, sampled in uses)


@functools.lru_cache(maxsize=8192)
def _key_set(patterns: tuple[tuple[str, str], ...], modes: tuple[str, ...], attested: bool) -> KeySet:
    """Return a set of keys; one object for all that are alike: machines that guests move between share keys."""
    return KeySet(patterns, modes, attested)


def _reserved(item: ReservedQueues) -> Matrix:
    """Return queues that an administrator keeps for the host: all, where it cannot be read which."""
    try:
        return item.matrix()
    except RefusedError:
        return Matrix(IdSet.every(), IdSet.every())


def _mdev(mdev: MdevStatus, present: Matrix) -> HeldMdev:
    try:
        configuration = Matrix.parse(mdev.adapters, mdev.domains, mdev.control_domains)
    except RefusedError:
        configuration = Matrix()
    guest = Matrix(
        _ids(mdev.guest_adapters),
        _ids(mdev.guest_domains),
        configuration.control_domains & present.control_domains,
    )
    unknown = mdev.reason == "GuestMatrixUnknown" or not (guest.adapters or guest.domains)
    return HeldMdev(
        mdev.uuid,
        configuration,
        mdev.state,
        mdev.offered,
        mdev.in_use,
        mdev.reason,
        mdev.message,
        guest=None if unknown else guest,
        migratable=mdev.migratable,
    )


def _desired(document: dict[str, Any]) -> tuple[Desired, ...]:
    """Return what the spec says; an entry that makes no sense is left out and so is written anew."""
    found = []
    for item in (document.get("spec") or {}).get("mdevs") or []:
        try:
            configuration = Matrix.parse(
                str(item["adapters"]), str(item["domains"]), str(item.get("controlDomains", ""))
            )
            found.append(
                Desired(
                    str(item["uuid"]),
                    str(item["matrix"]),
                    configuration,
                    bool(item.get("granted")),
                    bool(item.get("adopt")),
                    bool(item.get("frozen")),
                    bool(item.get("migratable")),
                )
            )
        except (KeyError, TypeError, RefusedError):
            continue
    return tuple(sorted(found, key=lambda item: item.uuid))


@functools.lru_cache(maxsize=8192)
def _ids(text: str) -> IdSet:
    """Return a set of ids, shared by all who have the same; nonsense is the empty set."""
    try:
        return IdSet.parse(text)
    except RefusedError:
        return IdSet()


def allocatable_matrices(node: dict[str, Any]) -> frozenset[str]:
    """Return the matrices whose resource a Node publishes with a count above zero."""
    resources = (node.get("status") or {}).get("allocatable") or {}
    return frozenset(
        name.removeprefix(RESOURCE)
        for name, count in resources.items()
        if name.startswith(RESOURCE) and str(count) != "0"
    )


def node_ready(node: dict[str, Any]) -> bool:
    """Tell whether a Node's Ready condition is True."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def taints(node: dict[str, Any]) -> tuple[Taint, ...]:
    """Return a Node's taints."""
    return tuple(
        Taint(str(t.get("key", "")), str(t.get("effect", "")), str(t.get("value") or ""))
        for t in (node.get("spec") or {}).get("taints") or []
    )
