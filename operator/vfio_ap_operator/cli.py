"""The command ``vfio-ap-operator``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from importlib.metadata import version

import kopf

from vfio_ap_kube.credentials import CredentialsError, load
from vfio_ap_operator.app import App
from vfio_ap_operator.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the operator until it is told to stop; return the exit code: 0 stopped, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="vfio-ap-operator",
        description="Gives KubeVirt VMs on IBM Z their crypto adapters, by the APMatrix objects of the cluster.",
        epilog="Environment: POD_NAMESPACE (namespace of the Leases), POD_NAME (identity of this replica), "
        "POD_IP and HEALTH_PORT (8080) of the health endpoint, KUBECONFIG (outside a pod).",
    )
    parser.add_argument("--verbose", action="store_true", help="log each decision")
    parser.add_argument("--version", action="version", version=f"vfio-ap-operator {version('vfio-ap-operator')}")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("kopf").setLevel(logging.INFO if options.verbose else logging.WARNING)
    try:
        load()
        settings = Settings.from_environment()
    except (CredentialsError, ValueError) as error:
        sys.stderr.write(f"vfio-ap-operator: {error}\n")
        return 2
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    app = App(settings)
    app.stop = asyncio.Event()
    await kopf.operator(
        registry=app.registry(),
        standalone=True,
        clusterwide=True,
        stop_flag=app.stop,
        liveness_endpoint=f"http://{_host(settings.health_host)}:{settings.health_port}/healthz",
    )
    return 1 if app.stop.is_set() else 0


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
