"""Options and commands of ``vfio-ap-agent``. Each option of ``run`` has a variable, for the DaemonSet."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import get_args

from vfio_ap.host.handover import Preference
from vfio_ap_agent.definitions import DEFAULT as DEFINITIONS
from vfio_ap_agent.lock import DEFAULT as DEFAULT_LOCK


def _preference(text: str) -> str:
    """Check a choice; argparse does not hold a variable's value to ``choices``."""
    if text not in get_args(Preference):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(get_args(Preference))}")
    return text


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--sysfs",
        default=os.environ.get("VFIO_AP_SYSFS", ""),
        metavar="DIR|unix:PATH",
        help="a directory that stands for /sys, or a socket of the simulator (default: this host; $VFIO_AP_SYSFS)",
    )
    common.add_argument(
        "--state-dir",
        type=Path,
        default=Path(os.environ.get("VFIO_AP_STATE_DIR", "/var/lib/vfio-ap-agent")),
        help="where samples and the record of what is ours are kept (default: %(default)s; $VFIO_AP_STATE_DIR)",
    )
    common.add_argument(
        "--lock-file",
        default=os.environ.get("VFIO_AP_LOCK_FILE"),
        metavar="FILE|none",
        help=f"lock shared with chzdev (default: {DEFAULT_LOCK} on this host, else none; $VFIO_AP_LOCK_FILE)",
    )
    common.add_argument(
        "--queue-control",
        type=_preference,
        default=os.environ.get("VFIO_AP_QUEUE_CONTROL") or "auto",
        metavar="auto|masks|override",
        help="how queues leave a host that shows no way yet; auto is masks ($VFIO_AP_QUEUE_CONTROL)",
    )
    common.add_argument("-v", "--verbose", action="store_true", help="log what is done")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", choices=("human", "json", "yaml"), default="human")
    top = argparse.ArgumentParser(
        prog="vfio-ap-agent", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("inventory", parents=[common, output], help="show adapters, queues, masks and mdevs")
    for name, text in (("plan", "show what apply would do"), ("apply", "bring this host to a desired state")):
        command = commands.add_parser(name, parents=[common, output], help=text)
        command.add_argument(
            "--desired", type=Path, required=True, metavar="FILE", help="YAML of the shape of APNode.spec"
        )
        if name == "apply":
            command.add_argument("--dry-run", action="store_true", help="the same as plan")
            command.add_argument(
                "--persist",
                nargs="?",
                type=Path,
                const=DEFINITIONS,
                metavar="DIR",
                help=f"define the devices for mdevctl, too, so that a boot restores them (default: {DEFINITIONS})",
            )
    commands.add_parser("watch", parents=[common, output], help="show changes as they happen")
    run = commands.add_parser("run", parents=[common], help="serve a cluster: apply APNode.spec, report")
    run.add_argument("--node-name", default=os.environ.get("NODE_NAME", ""), help="name of the Node ($NODE_NAME)")
    run.add_argument("--kubeconfig", default=None, help="default: $KUBECONFIG, the pod's own, or ~/.kube/config")
    run.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", "vfio-ap-system"),
        help="of the Lease ($POD_NAMESPACE)",
    )
    run.add_argument(
        "--kubelet-dir",
        default=os.environ.get("VFIO_AP_KUBELET_DIR", "/var/lib/kubelet/device-plugins"),
        metavar="DIR|none",
        help="the kubelet's device-plugins directory (default: %(default)s; $VFIO_AP_KUBELET_DIR)",
    )
    run.add_argument(
        "--health-port",
        type=int,
        default=int(os.environ.get("HEALTH_PORT", "8081")),
        help="port of /healthz, 0 for any free one, -1 for none (default: %(default)s; $HEALTH_PORT)",
    )
    run.add_argument(
        "--period",
        type=float,
        default=float(os.environ.get("VFIO_AP_PERIOD_SECONDS", "60")),
        help="seconds between readings when nothing happens (default: %(default)s; $VFIO_AP_PERIOD_SECONDS)",
    )
    run.add_argument(
        "--health-address",
        default=os.environ.get("POD_IP", ""),
        help="address of /healthz (default: all; $POD_IP)",
    )
    return top
