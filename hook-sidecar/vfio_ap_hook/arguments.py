"""The command line of ``vfio-ap-hook``, as options only: it knows no command's work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vfio_ap_hook import paths
from vfio_ap_hook.callbacks import VERSIONS
from vfio_ap_hook.vmi import is_uuid


def parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` is serve, ready or edit."""
    top = argparse.ArgumentParser(
        prog="vfio-ap-hook",
        description="Gives a KubeVirt VM's domain its vfio-ap device, as a hook sidecar of its pod.",
        epilog="Environment: HOOK_SOCKET_DIR and HOLD_FILE stand for the options of these names.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the program's version and exit")
    commands = top.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="answer virt-launcher until the guest ends, or until SIGTERM")
    serve.add_argument(
        "--version", choices=VERSIONS, help="offer this version of the protocol only (default: all)"
    )

    ready = commands.add_parser("ready", help="succeed when the hook answers and the pod is not held")
    ready.add_argument("--hold-file", default=paths.hold_file(), help="the pod's annotations (%(default)s)")

    for command in (serve, ready):
        command.add_argument("--socket-dir", default=paths.socket_dir(), help="folder of the socket (%(default)s)")

    edit = commands.add_parser("edit", help="read a domain, write it with the device")
    edit.add_argument("--uuid", type=_uuid, required=True, help="UUID of the mediated device, in lower case")
    return top


class _Version(argparse.Action):
    """Look the version up only when it is asked for: importlib.metadata takes 3 MiB."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import version

        parser.exit(message=f"vfio-ap-hook {version('vfio-ap-hook')}\n")


def _uuid(text: str) -> str:
    if not is_uuid(text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a UUID in lower case")
    return text
