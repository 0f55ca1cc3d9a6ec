"""The launcher pods of a node and what runs in them. Keeps account; what is done with a guest is elsewhere."""

from __future__ import annotations

from vfio_ap_sim.kubevirt import movestate
from vfio_ap_sim.kubevirt.api import CREATED_BY, Document
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.launcher import Node, VirtLauncher


class Launchers:
    """Launchers by their pods; one begins when its pod runs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pods: dict[str, Document] = {}
        self._launchers: dict[str, VirtLauncher] = {}

    def see(self, pod: Document, knobs: Knobs) -> None:
        """Take a pod's newest state; ``knobs`` are for a launcher that begins by it."""
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        if uid not in self._launchers and pod.get("status", {}).get("phase") == "Running":
            self._launchers[uid] = VirtLauncher(self._node, pod, knobs)

    def forget(self, uid: str) -> tuple[str, VirtLauncher | None]:
        """Drop a pod that is gone; return its VMI's uid, and its launcher, whose guest is still to be ended."""
        pod = self._pods.pop(uid, None)
        return (owner(pod) if pod else ""), self._launchers.pop(uid, None)

    def of(self, vmi: Document) -> list[VirtLauncher]:
        """Return the VMI's launchers that have begun."""
        wanted = vmi["metadata"]["uid"]
        return [
            self._launchers[uid] for uid, p in self._pods.items() if owner(p) == wanted and uid in self._launchers
        ]

    def named(self, pod: str) -> VirtLauncher | None:
        """Return the launcher in the pod of that name."""
        return next((launcher for launcher in self._launchers.values() if launcher.pod == pod), None)

    def current(self, vmi: Document) -> VirtLauncher | None:
        """Return the launcher with the VMI's guest, else the one that is to start it, else the one that had it."""
        target = movestate.state(vmi).get("targetPod")
        found = [launcher for launcher in self.of(vmi) if not launcher.ended]
        found = [launcher for launcher in found if launcher.alive or launcher.left or launcher.pod != target]
        return min(found, key=lambda launcher: (not launcher.alive, launcher.left), default=None)

    def ends(self, launcher: VirtLauncher | None) -> bool:
        """Tell whether somebody deletes the launcher's pod."""
        pod = self._pods.get(launcher.uid) if launcher else None
        return pod is not None and "deletionTimestamp" in pod["metadata"]


def owner(pod: Document) -> str:
    """Return the uid of the VMI that a launcher pod is for."""
    return str(pod["metadata"].get("labels", {}).get(CREATED_BY, ""))
