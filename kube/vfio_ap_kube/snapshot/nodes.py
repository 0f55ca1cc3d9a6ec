"""The view of a node: its APNode document and what its Node says."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import RefusedError
from vfio_ap.fleet.scheduling import Taint
from vfio_ap.fleet.views import Card, Desired, HeldMdev, NodeView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_api.apnode import Adapter, APNode, MdevStatus
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
    usage = _ids(status.usage_domains)
    return NodeView(
        name=name,
        labels=labels,
        taints=taints,
        alive=ready,
        max_adapter=status.kernel.max_adapter,
        max_domain=status.kernel.max_domain,
        cards={a.id: _card(a.type, a.functions) for a in status.adapters},
        live=status.kernel.live_migration,
        present=Matrix(IdSet.from_ids(_adapter_ids(status.adapters)), usage, _ids(status.control_domains)),
        desired=_desired(document),
        mdevs={mdev.uuid: _mdev(mdev) for mdev in status.mdevs},
        current=status.observed_generation == int(document["metadata"].get("generation", 0)),
        allocatable=allocatable,
        read_back=frozenset(node.spec.read_back.split(",")) - {""},
    )


@functools.cache
def _card(kind: str, functions: str) -> Card:
    """Return an adapter's hardware; one object for all that are alike, since a thousand nodes have few kinds."""
    try:
        return Card(kind, int(functions, 16) if functions else None)
    except ValueError:
        return Card(kind, None)


def _adapter_ids(adapters: list[Adapter]) -> list[int]:
    return [adapter.id for adapter in adapters if 0 <= adapter.id <= 255]


def _mdev(mdev: MdevStatus) -> HeldMdev:
    try:
        configuration = Matrix.parse(mdev.adapters, mdev.domains, mdev.control_domains)
    except RefusedError:
        configuration = Matrix()
    return HeldMdev(
        mdev.uuid,
        configuration,
        mdev.state,
        mdev.offered,
        mdev.in_use,
        mdev.reason,
        mdev.message,
        guest=_guest(mdev),
        migratable=mdev.migratable,
    )


def _guest(mdev: MdevStatus) -> Matrix | None:
    if not mdev.guest_adapters or not mdev.guest_domains:
        return None
    try:
        return Matrix.parse(mdev.guest_adapters, mdev.guest_domains, mdev.control_domains)
    except RefusedError:
        return None


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


def _ids(text: str) -> IdSet:
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
