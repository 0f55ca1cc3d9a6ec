"""One simulated IBM Z node: a modelled kernel behind a socket, and a played kubelet that runs real programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from vfio_ap.host.ops import Data, HostOps, Read
from vfio_ap_sim.kernel import Control, InProcessHost, Machine, boot
from vfio_ap_sim.kubelet import Knobs, PlayedKubelet
from vfio_ap_sim.serve import Simulator

_PROGRAMS = Path(sys.executable).parent
IMAGE_MAP: Mapping[str, Sequence[str]] = {
    "vfio-ap-operator": [str(_PROGRAMS / "vfio-ap-operator")],
    "vfio-ap-agent": [str(_PROGRAMS / "vfio-ap-agent")],
    "vfio-ap-hook": [str(_PROGRAMS / "vfio-ap-hook")],
}
"""The product's images and the local programs that stand for them."""


class SimNode:
    """Start and stop with ``async with``."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        kubeconfig: Path,
        folder: Path,
        *,
        address: str,
        labels: Mapping[str, str],
        profile: str,
        images: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Prepare; ``images`` are more than the product's, or others in their place."""
        self.name = name
        self.control: Control = boot(machine, profile)
        """The hands at the machine: plug, unplug, start a guest …"""
        self.host: HostOps = InProcessHost(self.control.kernel, comm="onlooker")
        """The node's files, as somebody beside the agent sees them."""
        self.socket = folder / "host.sock"
        self.simulator = Simulator(self.control, self.socket)
        """Serves the node's files; while it is closed, the node's sysfs has vanished."""
        self.state = folder / "state"
        self.kubelet = PlayedKubelet(
            name,
            kubeconfig,
            folder,
            labels=labels,
            image_map={**IMAGE_MAP, **(images or {})},
            extra_env={
                "VFIO_AP_SYSFS": f"unix:{self.socket}",
                "VFIO_AP_STATE_DIR": str(self.state),
                "VFIO_AP_LOCK_FILE": str(folder / "s390apconfig.lock"),
                "VFIO_AP_KUBELET_DIR": str(folder / "device-plugins"),
                "HOOK_SOCKET_DIR": "{mount:/var/run/kubevirt-hooks}",
                "HOLD_FILE": "{mount:/etc/vfio-ap/hold}/annotations",
                "WEBHOOK_CERTIFICATE": "{mount:/etc/vfio-ap/webhook}",
            },
            knobs=Knobs(status_period=1.0, first_backoff=0.5, address=address),
        )
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Serve the kernel and start the kubelet; its pods come when the scheduler sends them."""
        await self._stack.enter_async_context(self.simulator)
        await self._stack.enter_async_context(self.kubelet)

    async def stop(self) -> None:
        """Take the node's power away."""
        await self._stack.aclose()

    async def read(self, path: str) -> str:
        """Return a file's text as it is on the node. Raises OSError when it cannot be read."""
        (answer,) = await self.host.run([Read(path)], deadline=10)
        if isinstance(answer, Data):
            return answer.content.decode("latin-1")
        raise OSError(getattr(answer, "errno", 0), path)
