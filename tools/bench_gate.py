"""What the gate costs a VM's boot: without a matrix, with a device that is there, with one that is made first.

All in one run, in turns, each VM alone. The gate and its requests are as the API server accounts for them, boots
as a client sees them. Numbers are printed and never judged.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vfio_ap_kube.client import NODES, Document
from vfio_ap_sim.cluster import SYSTEM, SimCluster
from vfio_ap_sim.cluster.simcluster import APNODES, matrix
from vfio_ap_sim.controlplane import ControlPlane, LauncherError, audit
from vfio_ap_sim.kernel import machine_from
from vfio_ap_sim.kubevirt import KubeVirt
from vfio_ap_sim.kubevirt.api import VMIS, VMS

CHART = Path(__file__).parents[1] / "charts" / "vfio-ap-operator"
BANK, VM = "bank", "ledger"
NAMES = ("n1", "n2")
PLAIN, THERE, MADE = "none", "everywhere", "on-demand"
MATRIX_OF = {THERE: ("there", "Everywhere", 4), MADE: ("made", "OnDemand", 5)}
"""Name, placement and domain of the matrix of each kind of boot."""
OPERATOR = f"system:serviceaccount:{SYSTEM}:vfio-ap-operator"
AGENT = f"system:serviceaccount:{SYSTEM}:vfio-ap-agent"
KUBEVIRT = "system:serviceaccount:kubevirt:kubevirt-controller"
WORK = ("pods", "events", "apnodes", "apmatrices", "apmatrices/status", "namespaces")
"""What the operator asks for on behalf of a VM; its Lease and the looks at its policies go on at rest as well."""
QUIET = 1.5
"""Seconds after which the operator is taken to have nothing more to say of a boot."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: seconds, and numbers of requests; the gate's are None without a matrix."""

    boot: float
    gate: float | None = None
    read_back: float | None = None
    published: float | None = None
    until_lifted: int | None = None
    in_all: int | None = None


def note(text: str) -> None:
    """Say on standard error how far it is."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def machine(name: str) -> Document:
    """Return one of two equal machines."""
    return {
        "name": name,
        "machine": {"sequence": f"00000000000{name.upper():0>5}", "lpar": name.upper()},
        "adapters": [{"id": 5, "type": "CEX8C", "keys": "bank"}],
        "usageDomains": "0-15",
    }


def virtual_machine(kind: str) -> Document:
    """Return the VM, which differs in nothing but its annotation."""
    annotations = {"ap.s390x.io/matrix": MATRIX_OF[kind][0]} if kind in MATRIX_OF else {}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "1Gi"},
            "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
        },
        "networks": [{"name": "default", "pod": {}}],
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": VM, "namespace": BANK},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"annotations": annotations}, "spec": spec}},
    }


async def boot(cluster: SimCluster, kind: str) -> Boot:
    """Boot the VM once, take it away again, and return what it took."""
    # The wait before left off when kubelet published: without a pause each boot would begin at that very moment
    await asyncio.sleep(random.uniform(0, cluster.nodes[NAMES[0]].kubelet.knobs.status_period))  # noqa: S311
    since, began = time.time(), time.monotonic()
    await cluster.client.create(VMS.within(BANK), virtual_machine(kind))
    await cluster.until(VMIS.within(BANK), VM, lambda d: d.get("status", {}).get("phase") == "Running", "running")
    took = time.monotonic() - began
    await asyncio.sleep(QUIET)
    found = account(took, [r for r in audit.read(cluster.plane.account) if r.began >= since], kind)
    await cluster.plane.kubectl("delete", "vm", VM, "-n", BANK, "--wait=false")
    await cluster.gone(VMIS.within(BANK), VM)
    await asyncio.gather(*(at_rest(cluster, name) for name in NAMES))
    return found


async def at_rest(cluster: SimCluster, node: str) -> None:
    """Return once a node is as it was before: one device, which nobody uses, and kubelet publishes no other."""
    there, made = (f"ap.s390x.io/{name}" for name, _, _ in MATRIX_OF.values())

    def idle(apnode: Document) -> bool:
        mdevs = apnode["status"].get("mdevs") or []
        return [(m["matrix"], m.get("inUse", False)) for m in mdevs] == [(MATRIX_OF[THERE][0], False)]

    def published(document: Document) -> bool:
        allocatable = document["status"].get("allocatable") or {}
        return allocatable.get(there) == "1" and allocatable.get(made, "0") == "0"

    await cluster.until(APNODES, node, idle, "at rest")
    await cluster.until(NODES, node, published, "at rest")


def account(took: float, requests: list[audit.Request], kind: str) -> Boot:
    """Return what kube-apiserver says of one boot."""
    if kind == PLAIN:
        return Boot(took)

    def find(user: str, verb: str, resource: str) -> audit.Request:
        return next(
            r for r in requests if (r.user, r.verb, r.resource, r.code // 100) == (user, verb, resource, 2)
        )

    created, lifted = find(KUBEVIRT, "create", "pods"), find(OPERATOR, "patch", "pods")
    work = [r for r in requests if r.user == OPERATOR and r.verb != "watch" and r.resource in WORK]
    read_back = published = None
    if kind == MADE:
        asked = find(OPERATOR, "patch", "apnodes")
        reports = [r for r in requests if (r.user, r.resource) == (AGENT, "apnodes/status")]
        read_back = next(r.ended for r in reports if r.began > asked.began) - created.ended
        kubelets = [r for r in requests if r.user.startswith("system:node:") and r.resource == "nodes/status"]
        published = max(r.ended for r in kubelets if r.ended < lifted.began) - created.ended
    return Boot(
        took,
        lifted.ended - created.ended,
        read_back,
        published,
        sum(r.began >= created.began and r.ended <= lifted.ended for r in work),
        len(work),
    )


async def measure(rounds: int) -> tuple[dict[str, list[Boot]], float]:
    """Return all boots by kind, and the period in seconds in which the played kubelet publishes."""
    found: dict[str, list[Boot]] = {PLAIN: [], THERE: [], MADE: []}
    note("bench-gate: control plane, KubeVirt, two nodes …")
    async with (
        ControlPlane(account=True) as plane,
        SimCluster(CHART, plane=plane) as cluster,
        KubeVirt(plane) as kubevirt,
    ):
        await cluster.install()
        await plane.kubectl("create", "namespace", BANK)
        for name in NAMES:
            node = await cluster.add_node(name, machine_from(machine(name)), profile="MIGv4PLUS")
            await kubevirt.attach(node)
        await cluster.reported(*NAMES)
        for name, placement, domain in MATRIX_OF.values():
            spec = {"adapters": [5], "domains": [domain], "allowedNamespaces": [BANK]}
            await cluster.apply(matrix(name, placement=placement, **spec))
        await cluster.ready(*(name for name, _, _ in MATRIX_OF.values()))
        await asyncio.gather(*(at_rest(cluster, name) for name in NAMES))
        period = cluster.nodes[NAMES[0]].kubelet.knobs.status_period
        for kind in found:  # one of each beforehand: first calls load and connect
            await boot(cluster, kind)
        for number in range(rounds):
            kinds = list(found)
            for kind in kinds[number % 3 :] + kinds[: number % 3]:
                found[kind].append(await boot(cluster, kind))
            note(f"round {number + 1} of {rounds}: " + brief(found))
    return found, period


def brief(found: dict[str, list[Boot]]) -> str:
    """Return the newest boots in a line."""
    return ", ".join(f"{kind} {boots[-1].boot:.2f} s" for kind, boots in found.items())


def table(found: dict[str, list[Boot]]) -> Iterable[str]:
    """Yield the lines of the table: medians, the largest, and ratios to the boot without a matrix."""
    rows: tuple[tuple[str, str, str], ...] = (
        ("boot", "VM created -> VMI Running", "{:.2f} s"),
        ("gate", "launcher pod created -> gate lifted", "{:.3f} s"),
        ("read_back", "… until the agent reported the device", "{:.3f} s"),
        ("published", "… until kubelet published it", "{:.3f} s"),
        ("until_lifted", "the operator's API requests until then", "{:.0f}"),
        ("in_all", "the operator's API requests for the whole boot", "{:.0f}"),
    )
    count = max(len(boots) for boots in found.values())
    yield f"| median (largest) of {count} | no matrix | Everywhere | OnDemand |"
    yield "| --- | --- | --- | --- |"
    plain, there, made = (statistics.median(b.boot for b in boots) for boots in found.values())
    for field, title, form in rows:
        cells = []
        for boots in found.values():
            values = [value for b in boots if (value := getattr(b, field)) is not None]
            text = f"{form.format(statistics.median(values))} ({form.format(max(values))})" if values else ""
            cells.append(text)
        yield f"| {title} | {' | '.join(cells)} |"
        if field == "boot":
            yield f"| as a ratio | 1 | {there / plain:.2f} | {made / plain:.2f} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-gate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="boots of each kind")
    rounds = max(1, parser.parse_args().rounds)
    logging.basicConfig(level=logging.ERROR)  # what a watch does to outlast a starting API server is no news
    before = os.getloadavg()[0]
    try:
        found, period = asyncio.run(measure(rounds))
    except LauncherError as error:
        note(f"bench-gate: failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    load = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    lines = [
        *table(found),
        "",
        f"{rounds} boots of each kind, in turns; {os.cpu_count()} CPUs, {load}.",
        f"The played kubelet publishes a new resource once every {period:g} s; a real one every 10 s.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
