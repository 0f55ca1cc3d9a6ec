"""What may be tried while the demo's cluster stays up."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from vfio_ap_sim.cluster import SYSTEM, SimCluster
from vfio_ap_sim.demo.guests import NAMESPACE
from vfio_ap_sim.demo.stage import Stage

_MIGRATION = "{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstanceMigration"
_MIGRATION += f", metadata: {{generateName: ledger-, namespace: {NAMESPACE}}}, spec: {{vmiName: ledger}}}}"


async def up(stage: Stage, cluster: SimCluster, interrupted: asyncio.Event) -> None:
    """Say what to try and wait for Ctrl-C."""
    plane = cluster.plane
    programs = f"{plane.binaries['kubectl'].parent}:{Path(sys.executable).parent}"
    stage.headline("Everything stays up until Ctrl-C. In another terminal:")
    # Ports are used again: what kubectl remembers of an earlier run's would be taken for this one's.
    cache = plane.run_dir / "kube" / "yours"
    stage.show(f"export KUBECONFIG={plane.kubeconfig} KUBECACHEDIR={cache} PATH={programs}:$PATH")
    stage.show("\n# what there is, and why")
    stage.show(f"kubectl get ap; kubectl get vm,vmi,vmim,apmigrations -n {NAMESPACE}")
    stage.show(f"kubectl describe apmatrix guest3; kubectl events -n {NAMESPACE}")
    stage.show(f"kubectl ap doctor; kubectl ap nodes; kubectl ap check vm/ledger -n {NAMESPACE}")
    stage.show(
        f"tail -f {plane.run_dir}/n/*/logs/{SYSTEM}_vfio-ap-operator*/*.log    # kubectl logs needs a real kubelet"
    )
    stage.show("\n# back again: by hand, by a drain; a stop and a start")
    stage.show("kubectl uncordon lnx1")
    stage.show(f"echo '{_MIGRATION}' | kubectl create -f -")
    stage.show("kubectl drain lnx2 --ignore-daemonsets --delete-emptydir-data")
    for strategy in ("Halted", "Always"):
        patch = f'{{"spec":{{"runStrategy":"{strategy}"}}}}'
        stage.show(f"kubectl patch vm ledger -n {NAMESPACE} --type=merge -p '{patch}'")
    stage.show("\n# a node as its administrator sees it")
    for name, node in sorted(cluster.nodes.items()):
        stage.show(f"vfio-ap-agent inventory --sysfs unix:{node.socket} --state-dir {node.state}    # {name}")
    try:
        await interrupted.wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and interrupted.is_set():
            task.uncancel()
