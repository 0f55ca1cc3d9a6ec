"""What the operator costs at the size it is designed for: memory, a whole pass, and one change.

``python tools/bench_operator.py [NODES] [MATRICES]``: documents as an API server sends them go into the real
fleet and the real reconciler; writes go to an API that answers at once with what it was told. So this is the
operator's own time and memory, without network and API server. Prints a table.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from vfio_ap.idset import IdSet
from vfio_ap_kube.client import Resource
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.reconcile import Reconciler

_CHANGES = 200
_ADAPTERS, _DOMAINS = range(60), range(85)


class Api:
    """Answers every write with the object as it would be, at once."""

    def __init__(self) -> None:
        self.writes = 0
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}

    def holding(self, plural: str, document: dict[str, Any]) -> dict[str, Any]:
        """Have an object already; return it."""
        self.objects[plural, document["metadata"]["name"]] = document
        return document

    async def _merged(self, plural: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.writes += 1
        known = self.objects.setdefault((plural, name), {})
        for part in ("spec", "status"):
            if part in body:
                known[part] = {**known.get(part, {}), **body[part]}
        metadata = known.setdefault("metadata", {})
        metadata |= {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
        metadata["resourceVersion"] = str(int(metadata.get("resourceVersion", "0")) + 1)
        if "spec" in body:
            metadata["generation"] = int(metadata.get("generation", 0)) + 1
        return known

    async def apply(self, resource: Resource, document: dict[str, Any], **_: object) -> dict[str, Any]:
        """Take a server-side apply."""
        return await self._merged(resource.plural, document["metadata"]["name"], document)

    async def merge(self, resource: Resource, name: str, patch: dict[str, Any], **_: object) -> dict[str, Any]:
        """Take a merge patch."""
        return await self._merged(resource.plural, name, patch)

    async def get(self, resource: Resource, name: str) -> dict[str, Any]:
        """Return an object."""
        return self.objects[resource.plural, name]

    async def json_patch(self, resource: Resource, name: str, patch: list[dict[str, Any]]) -> dict[str, Any]:
        """Take the patch that lifts a gate."""
        self.writes += 1
        document = self.objects[resource.plural, name]
        document["spec"].pop("schedulingGates", None)
        return document


class Events:
    """Counts Events."""

    async def post(self, *_: object, **__: object) -> None:
        """Take an Event."""


def node(number: int) -> dict[str, Any]:
    """Return a Node."""
    labels = {"kubernetes.io/hostname": f"n{number}", "row": f"r{number % 20}"}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {}}
    return {"metadata": {"name": f"n{number}", "uid": f"u{number}", "labels": labels}, "status": status}


def apnode(number: int) -> dict[str, Any]:
    """Return the APNode of a full machine."""
    usage = str(IdSet.from_ids(_DOMAINS))
    keys = [{"domains": usage, "set": "a"}]
    adapters = [
        {"id": a, "type": "CEX8C", "functions": "0x93800000", "state": "Online", "host": usage, "keys": keys}
        for a in _ADAPTERS
    ]
    status = {
        "observedGeneration": 1,
        "kernel": {"maxAdapter": 255, "maxDomain": 255, "liveMigration": "v4", "queueControl": "Masks"},
        "machine": {"id": f"IBM-3931-{number:016}"},
        "usageDomains": usage,
        "adapters": adapters,
        "keySets": [{"name": "a", "patterns": {"AES CUR": "0x" + "ab" * 8}}],
        "mdevs": [],
    }
    metadata = {"name": f"n{number}", "uid": f"ap{number}", "generation": 1}
    return {"metadata": metadata, "spec": {"mdevs": []}, "status": status}


def matrix(number: int) -> dict[str, Any]:
    """Return an APMatrix; each has one queue, and those of one row of nodes differ."""
    row, place = number % 20, number // 20
    spec = {
        "adapters": [place % len(_ADAPTERS)],
        "domains": [place // len(_ADAPTERS)],
        "allowedNamespaces": [f"ns{number % 50}"],
        "nodeSelector": {"row": f"r{row}"},
    }
    metadata = {
        "name": f"m{number}",
        "uid": f"mu{number}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["ap.s390x.io/devices"],
    }
    return {"metadata": metadata, "spec": spec, "status": {"uuid": str(uuid.UUID(int=number + 1))}}


def pod(number: int) -> dict[str, Any]:
    """Return a launcher pod that waits at the gate for a matrix."""
    labels = {
        "ap.s390x.io/matrix": f"m{number}",
        "kubevirt.io/created-by": f"vmi{number}",
        "vm.kubevirt.io/name": f"vm{number}",
    }
    metadata = {"name": f"p{number}", "namespace": f"ns{number % 50}", "uid": f"pu{number}", "labels": labels}
    spec = {"schedulingGates": [{"name": "ap.s390x.io/placement"}], "containers": []}
    return {"metadata": metadata, "spec": spec, "status": {}}


def resident() -> float:
    """Return this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def measure(nodes: int, matrices: int) -> list[tuple[str, str]]:
    """Return the table's rows."""
    rows: list[tuple[str, str]] = []
    before = resident()
    fleet, api = Fleet(), Api()
    reconciler = Reconciler(fleet, api, Events())  # type: ignore[arg-type]
    began = time.perf_counter()
    for number in range(nodes):
        fleet.observe_node(node(number))
        fleet.observe_apnode(api.holding("apnodes", apnode(number)))
        fleet.hear(f"n{number}", True)
    for number in range(50):
        fleet.observe_namespace(api.holding("namespaces", {"metadata": {"name": f"ns{number}", "labels": {}}}))
    for number in range(matrices):
        fleet.observe_matrix(api.holding("apmatrices", matrix(number)))
    rows.append(("all objects taken in", f"{time.perf_counter() - began:.2f} s"))
    began = time.perf_counter()
    await reconciler.once()
    rows.append(("first pass over everything", f"{time.perf_counter() - began:.2f} s, {api.writes} writes"))
    api.writes = 0
    await reconciler.once()
    rows.append(("writes of a pass at rest", str(api.writes)))
    spent = []
    for number in random.Random(1).sample(  # noqa: S311 - the same choice each time
        range(matrices), min(_CHANGES, matrices)
    ):
        document = api.holding("pods", pod(number))
        began = time.perf_counter()
        fleet.work.observe_pod(document)
        await reconciler.once()
        spent.append((time.perf_counter() - began) * 1000)
    spent.sort()
    median, last = statistics.median(spent), spent[int(len(spent) * 0.99)]
    rows.append(("a gated pod, until its node's spec is written", f"median {median:.1f} ms, p99 {last:.1f} ms"))
    gc.collect()
    # What the played API keeps is not the operator's.
    api.objects.clear()
    gc.collect()
    rows.append(("memory", f"{resident():.0f} MiB, {before:.0f} of it before the first object"))
    return rows


def main() -> int:
    """Print the table; return the exit code."""
    nodes, matrices = (int(text) for text in (*sys.argv[1:3], "1000", "5000")[:2])
    sys.stdout.write(
        f"operator with {nodes} nodes of {len(_ADAPTERS)} x {len(_DOMAINS)} queues and {matrices} matrices\n"
    )
    for what, found in asyncio.run(measure(nodes, matrices)):
        sys.stdout.write(f"  {what:48} {found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
