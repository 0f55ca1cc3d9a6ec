"""``python -m vfio_ap_sim.controlplane``: get the binaries, run one, or a control plane in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .binaries import default_binaries
from .controlplane import ControlPlane
from .errors import LauncherError
from .tools import OPTIONAL, TOOLS, Tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m vfio_ap_sim.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("binaries", help="get the binaries; print name, path and source of each")
    get.add_argument("--all", action="store_true", help="KubeVirt's too, which a control plane does without")
    run = commands.add_parser("run", help="get one binary and become it: run helm lint CHART")
    # One argument that takes everything: whatever starts with a dash is the tool's
    run.add_argument("call", nargs=argparse.REMAINDER, metavar="TOOL [ARG...]")
    up = commands.add_parser("up", help="run a control plane until Ctrl-C; print the path of its kubeconfig")
    up.add_argument("--run-dir", type=Path, help="folder of the run; a temporary one otherwise")
    up.add_argument("--keep", action="store_true", help="do not delete the folder at the end")
    options = parser.parse_args(arguments)
    try:
        if options.command == "binaries":
            _binaries(TOOLS + OPTIONAL if options.all else TOOLS)
        elif options.command == "run":
            tools = {tool.name: tool for tool in TOOLS + OPTIONAL}
            if not options.call or options.call[0] not in tools:
                run.error(f"run takes one of {', '.join(tools)}, then its arguments")
            _become(tools[options.call[0]], options.call[1:])
        else:
            asyncio.run(_up(options.run_dir, options.keep))
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _binaries(tools: Sequence[Tool]) -> None:
    binaries = default_binaries()
    width = max(len(tool.name) for tool in tools)
    for tool in tools:
        found = binaries.get(tool)
        print(f"{found.name:{width}} -> {found.path} ({found.source})", flush=True)


def _become(tool: Tool, arguments: Sequence[str]) -> NoReturn:
    path = default_binaries().get(tool).path
    os.execv(path, [str(path), *arguments])  # noqa: S606 - no shell is wanted


async def _up(run_dir: Path | None, keep: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does: the servers are ended in order and the folder goes.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with ControlPlane(run_dir, keep=keep) as plane:
            print(plane.kubeconfig, flush=True)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if task.uncancel():
            raise
