"""``APNode.status`` of a host: what was read, what became of the wish, and the keys that were sampled.

A full machine stays under 64 KiB: queues are written as ranges of domains by adapter, each distinct set of keys
once. Where every queue has keys of its own, sets are cut, the least used first, and their number is told.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any

from vfio_ap.host.report import MdevReport
from vfio_ap.host.view import GUEST_DRIVER, HOST_DRIVER, HostView
from vfio_ap.host.wish import HostPlan
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn
from vfio_ap_agent.keys import KeyPicture
from vfio_ap_agent.samples import Samples
from vfio_ap_api import apnode

SIZE_LIMIT = 62 * 1024
"""Bytes of JSON that a status may take, conditions included."""
_RESERVE = 6 * 1024
"""Of which conditions and metadata may take this much."""
_BIND_STATE = 0x0000C000
"""Bits of a queue's facility word (1.5)."""


def build(
    view: HostView,
    plan: HostPlan,
    reports: Iterable[MdevReport],
    samples: Samples,
    keys: KeyPicture,
    *,
    offered: Collection[str] = (),
    heard: Mapping[str, list[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the status document but for conditions, ``observedGeneration`` and the state's one word.

    ``offered`` are the UUIDs that kubelet has, ``heard`` what the kernel said, by UUID.
    """
    by_driver, bound = view.by_driver(), _bound(view)
    adapters = [
        _adapter(view, by_driver, number, samples, keys.uses(number), bound.get(number, ""))
        for number in sorted(view.adapters)
    ]
    mdevs = [_mdev(report, report.uuid in offered) for report in reports]
    kernel, release = view.kernel, plan.release
    status = apnode.APNodeStatus(
        agent_version=version(),
        machine=apnode.Machine(id=view.machine.id, model=view.machine.model, lpar=view.machine.lpar),
        kernel=apnode.Kernel(
            release=kernel.release,
            features=list(kernel.features),
            live_migration=kernel.live_migration,
            queue_control=kernel.queue_control,
            max_adapter=kernel.max_adapter,
            max_domain=kernel.max_domain,
        ),
        usage_domains=str(view.present.domains),
        control_domains=str(view.present.control_domains),
        masks=apnode.HostMasksStatus(
            adapters=str(view.masks.adapters),
            domains=str(view.masks.domains),
            along=[apnode.AlongQueues(adapter=a, domains=str(d)) for a, d in (release.along if release else ())],
            along_count=release.along_count if release else 0,
            exact=release.exact if release else True,
            at_least=release.at_least if release else 0,
        ),
        adapters=adapters,
        key_sets=list(keys.sets.values()),
        mdevs=mdevs,
        kernel_log=[apnode.DeviceLog(uuid=uuid, lines=lines) for uuid, lines in heard.items()],
        host_queues=_count(by_driver.get(HOST_DRIVER, {})),
        guest_queues=_count(by_driver.get(GUEST_DRIVER, {})),
        driverless_queues=_count(by_driver.get("", {})),
        summary={"adapters": _adapters_text(view), "mdevs": _mdevs_text(mdevs)},
    )
    document = status.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    # What a column shows is said even where it is the default: a blank is no answer.
    document["kernel"]["liveMigration"] = kernel.live_migration
    counts = {name: document.get(name, 0) for name in ("hostQueues", "guestQueues", "driverlessQueues")}
    return _fit({**document, **counts})


@functools.cache
def version() -> str:
    """Return the agent's version, empty where it is not installed as a package."""
    try:
        return metadata.version("vfio-ap-agent")
    except metadata.PackageNotFoundError:
        return ""


def _count(rows: dict[int, IdSet]) -> int:
    return sum(len(domains) for domains in rows.values())


def _adapters_text(view: HostView) -> str:
    ids = IdSet.from_ids(view.adapters)
    return f"{ids} ({len(ids)})" if ids else "none"


def _mdevs_text(mdevs: list[apnode.MdevStatus]) -> str:
    wanted = [mdev for mdev in mdevs if mdev.state not in ("Foreign", "Leaving")]
    text = f"{sum(mdev.state == 'Ready' for mdev in wanted)}/{len(wanted)}"
    for state in ("Leaving", "Foreign"):
        if number := sum(mdev.state == state for mdev in mdevs):
            text += f" +{number} {state.lower()}"
    return text


def _adapter(
    view: HostView,
    by_driver: dict[str, dict[int, IdSet]],
    number: int,
    samples: Samples,
    keys: list[apnode.KeyUse],
    bound: str,
) -> apnode.Adapter:
    adapter = view.adapters[number]
    sample = samples.adapters.get(number)
    if sample is not None and sample.type != adapter.type:
        sample = None
    guest = by_driver.get(GUEST_DRIVER, {}).get(number, IdSet())
    in_use = IdSet.from_ids(d for d in guest if view.queues[Apqn(number, d)].status == "in use")
    return apnode.Adapter(
        id=number,
        type=adapter.type,
        functions="" if adapter.functions is None else f"0x{adapter.functions:08X}",
        serial=sample.serial if sample else "",
        op_modes=sample.modes.split() if sample else [],
        state=adapter.state,
        host=str(by_driver.get(HOST_DRIVER, {}).get(number, "")),
        guest=str(guest),
        driverless=str(by_driver.get("", {}).get(number, "")),
        in_use=str(in_use),
        bound=bound,
        keys=keys,
    )


def _bound(view: HostView) -> dict[int, str]:
    """Return, by adapter, the domains whose queues have a bind state; the card's word does not show it (C-4)."""
    bits: dict[int, int] = {}
    for apqn, queue in view.queues.items():
        if queue.functions is not None and queue.functions & _BIND_STATE:
            bits[apqn.adapter] = bits.get(apqn.adapter, 0) | 1 << apqn.domain
    return {adapter: str(IdSet(domains)) for adapter, domains in bits.items()}


def _mdev(report: MdevReport, offered: bool) -> apnode.MdevStatus:
    note = report.note
    return apnode.MdevStatus(
        uuid=report.uuid,
        matrix=report.name,
        adapters=str(report.matrix.adapters),
        domains=str(report.matrix.domains),
        control_domains=str(report.matrix.control_domains),
        guest_adapters=str(report.guest.adapters),
        guest_domains=str(report.guest.domains),
        state=report.state,
        offered=offered,
        in_use=report.in_use,
        migratable=report.migratable,
        reason=note.reason if note else "",
        message=str(note)[:1024] if note else "",
    )


def _fit(document: dict[str, Any]) -> dict[str, Any]:
    """Cut what can be done without until the document fits; how much there is of it is told all the same.

    First the list of queues that moved along, then key sets, those before others that the fewest adapters use.
    """
    room = SIZE_LIMIT - _RESERVE
    if _size(document) > room:
        document.get("masks", {}).pop("along", None)
    size = _size(document)
    if size <= room or not document.get("keySets"):
        return document
    used: dict[str, int] = {}
    costs: dict[str, int] = {}
    for adapter in document.get("adapters", ()):
        for use in adapter.get("keys", ()):
            used[use["set"]] = used.get(use["set"], 0) + 1
            costs[use["set"]] = costs.get(use["set"], 0) + _size(use) + 1
    sets = {item["name"]: _size(item) + 1 for item in document.get("keySets", ())}
    kept = set(sets)
    for name in sorted(sets, key=lambda name: (used.get(name, 0), name)):
        if size <= room:
            break
        size -= sets[name] + costs.get(name, 0)
        kept.discard(name)
    document["keySets"] = [item for item in document["keySets"] if item["name"] in kept]
    for adapter in document["adapters"]:
        if "keys" in adapter:
            adapter["keys"] = [use for use in adapter["keys"] if use["set"] in kept]
    document["summary"]["keys"] = f"{len(kept)} of {len(sets)} key sets shown"
    return document


def _size(document: object) -> int:
    return len(json.dumps(document, separators=(",", ":")))
