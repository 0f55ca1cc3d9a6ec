"""A move by a restart: the VM is stopped on its source and started on its target, which holds the device already.

It is the way for kernels that cannot migrate the device, and only for VMs that KubeVirt starts again, those that
a VirtualMachine owns. The move's status says so before KubeVirt is asked, so that after a crash it is known why
the VM was stopped. Nothing here chooses nodes.
"""

from __future__ import annotations

from dataclasses import replace

from vfio_ap.errors import Refusal
from vfio_ap.fleet.moves.endings import settled
from vfio_ap.fleet.moves.types import MoveStatus, Surroundings


def restarted(status: MoveStatus, around: Surroundings) -> MoveStatus:
    """Return how a move stands whose VM is being restarted; ``around.patient`` says that there is time left."""
    vm, target = around.vm, status.target
    if vm is not None and vm.uid != status.instance:
        if vm.node == target:
            return settled(status, around)
        text = f"it started on {vm.node} instead of {target}"
        return _ended(status, Refusal("StartedElsewhere", f"VM {vm}", text, "ask for the move again"))
    line = f"it stops on {status.source}" if vm is not None else f"it has stopped; it is to start on {target}"
    mine = [pod for pod in around.pods if pod.owner != status.instance]
    wait = next((w for w in around.plan.waits if any(w.pod.uid == pod.uid for pod in mine)), None)
    if wait is not None and vm is None:
        line = f"{line}: {wait.refusal}"
    if around.patient:
        return replace(status, line=line, refusal=wait.refusal if wait is not None else None)
    remedy = "see the VM and its VMI; it starts on any node that can take it now"
    return _ended(
        status, Refusal("RestartTooLong", f"VM on {status.source}", f"it takes too long: {line}", remedy)
    )


def _ended(status: MoveStatus, refusal: Refusal) -> MoveStatus:
    return replace(status, phase="Failed", line=str(refusal), refusal=refusal)
