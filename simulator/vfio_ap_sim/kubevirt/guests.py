"""Guests as a node's virt-handler keeps them: started, watched, ended. After pkg/virt-handler/vm.go of v1.8.4.

``sync`` gets a VMI that it may change; whoever calls it writes it back. Migrations are in ``moves``.
"""

from __future__ import annotations

from vfio_ap_sim.kubevirt import movestate, vmistatus
from vfio_ap_sim.kubevirt.api import NODE_NAME, Document
from vfio_ap_sim.kubevirt.launcher import LauncherDiedError, VirtLauncher
from vfio_ap_sim.kubevirt.libvirterror import SyncError
from vfio_ap_sim.kubevirt.memlock import may_lock_memory
from vfio_ap_sim.kubevirt.moves import Say


class GuestController:
    """Keeps the guests that belong on this node."""

    def __init__(self, node: str, say: Say) -> None:
        self._node = node
        self._say = say

    async def sync(self, vmi: Document, launcher: VirtLauncher | None, *, pod_ends: bool, died: bool) -> bool:
        """Bring guest and VMI together; tell whether that went well, or the caller is to come again.

        ``pod_ends``: somebody deletes the pod, whose virt-launcher then asks for a shutdown. ``died``: there was a
        virt-launcher, and there is none now.
        """
        if not self._owns(vmi):
            if launcher is not None and launcher.left:
                await launcher.exit()  # with its domain shut off for a migration, an orphan
            return True
        if "deletionTimestamp" in vmi["metadata"] or pod_ends:
            await self._shut_down(vmi, launcher)
        elif movestate.in_progress(movestate.state(vmi)):
            return True  # the guest is between two nodes: neither side looks at it
        elif launcher is not None and launcher.alive:
            vmistatus.set_running(vmi)
            vmistatus.set_conditions(vmi)
        elif vmistatus.phase(vmi) == "Scheduled" and launcher is not None:
            vmistatus.set_conditions(vmi)
            return await self._start(vmi, launcher)
        elif vmistatus.phase(vmi) == "Scheduled" and died:
            vmistatus.set_phase(
                vmi, "Failed"
            )  # however often it is looked at: one write may be lost to a conflict
        elif vmistatus.phase(vmi) == "Running":
            vmistatus.set_phase(vmi, "Failed")
            await self._say(vmi, "Warning", "Stopped", "The VirtualMachineInstance crashed.")
        return True

    def _owns(self, vmi: Document) -> bool:
        """Tell whether the guest belongs here (isVMIOwnedByNode)."""
        label = vmi["metadata"].get("labels", {}).get(NODE_NAME)
        return self._node in (label, vmi["status"].get("nodeName"))

    async def _start(self, vmi: Document, launcher: VirtLauncher) -> bool:
        try:
            await launcher.sync(vmi, raised=may_lock_memory(vmi))
        except SyncError as error:
            vmistatus.set_failure(vmi, str(error))
            await self._say(vmi, "Warning", "SyncFailed", str(error))
            return False
        except LauncherDiedError as error:
            await self._say(vmi, "Warning", "SyncFailed", str(error))
            vmistatus.set_phase(vmi, "Failed")
            return True
        await self._say(vmi, "Normal", "Created", "VirtualMachineInstance defined.")
        await self._say(vmi, "Normal", "Started", "VirtualMachineInstance started.")
        vmistatus.set_running(vmi)
        return True

    async def _shut_down(self, vmi: Document, launcher: VirtLauncher | None) -> None:
        """End the guest and say so."""
        if launcher is not None:
            await launcher.stop()
            await launcher.exit()
        if vmistatus.phase(vmi) == "Running":
            vmistatus.set_phase(vmi, "Succeeded")
            await self._say(vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        elif vmistatus.phase(vmi) == "Scheduled":
            vmistatus.set_phase(vmi, "Failed")
