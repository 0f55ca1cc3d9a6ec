"""Command lines of KubeVirt's servers: pure functions from paths and ports to arguments.

After NewApiServerDeployment and NewControllerDeployment
(pkg/virt-operator/resource/generate/components/deployments.go of v1.8.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vfio_ap_sim.controlplane.commands import LOOPBACK
from vfio_ap_sim.controlplane.pki import Pair
from vfio_ap_sim.controlplane.tools import KUBEVIRT

API, CONTROLLER = "virt-api", "virt-controller"
LAUNCHER_IMAGE = f"quay.io/kubevirt/virt-launcher:{KUBEVIRT}"
"""Image of the played launcher's container; no node pulls it."""


def virt_api(program: Path, kubeconfig: Path, port: int, serving: Pair) -> list[str]:
    """Return virt-api's command line; it calls virt-handler for consoles only, which is played and has none."""
    return [
        *_common(program, kubeconfig, port),
        "--subresources-only",
        f"--tls-cert-file={serving.cert}",
        f"--tls-key-file={serving.key}",
        f"--handler-cert-file={serving.cert}",
        f"--handler-key-file={serving.key}",
    ]


def virt_controller(program: Path, kubeconfig: Path, port: int, serving: Pair) -> list[str]:
    """Return virt-controller's command line."""
    return [
        *_common(program, kubeconfig, port),
        f"--launcher-image={LAUNCHER_IMAGE}",
        f"--prom-cert-file={serving.cert}",
        f"--prom-key-file={serving.key}",
    ]


def _common(program: Path, kubeconfig: Path, port: int) -> list[str]:
    return [str(program), f"--kubeconfig={kubeconfig}", f"--listen={LOOPBACK}", f"--port={port}"]


BY_NAME: Mapping[str, Callable[[Path, Path, int, Pair], list[str]]] = {API: virt_api, CONTROLLER: virt_controller}
