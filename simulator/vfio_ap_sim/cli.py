"""The command ``vfio-ap-sim``: serve or mount a modelled machine, and work on a running one."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vfio_ap_sim.kernel import PROFILES, ControlError, boot, load_machine
from vfio_ap_sim.mount import Broadcast, Mount
from vfio_ap_sim.serve import Simulator, ask
from vfio_ap_sim.serve.verbs import VERBS, Argument


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with the reason on stderr. Wrong usage exits with 2."""
    arguments = _parser().parse_args(argv)
    try:
        return asyncio.run(_COMMANDS[arguments.command](arguments))
    except ControlError as error:
        print(f"vfio-ap-sim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _serve(arguments: argparse.Namespace) -> int:
    machine = load_machine(arguments.config)
    stop = _stop_signal()
    try:
        async with Simulator(boot(machine, arguments.profile), arguments.socket, arguments.control):
            print(f"{machine.name} ({arguments.profile}) is on {arguments.socket}", flush=True)
            await stop.wait()
    except OSError as error:
        raise ControlError(f"cannot listen: {error}") from None
    return 0


async def _mount(arguments: argparse.Namespace) -> int:
    machine = load_machine(arguments.config)
    stop = _stop_signal()
    control = boot(machine, arguments.profile)
    if arguments.uevents:
        broadcast = Broadcast()
        control.kernel.uevents.subscribe(lambda event: broadcast.send(event.variables))
    try:
        async with (
            Simulator(control, verbs=arguments.control) as simulator,
            Mount(simulator, arguments.directory),
        ):
            print(f"{machine.name} ({arguments.profile}) is mounted on {arguments.directory}", flush=True)
            await stop.wait()
    except PermissionError:
        raise ControlError(f"cannot mount on {arguments.directory}: {_NAMESPACE}") from None
    except OSError as error:
        raise ControlError(f"cannot mount on {arguments.directory}: {error}") from None
    return 0


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _ctl(arguments: argparse.Namespace) -> int:
    verb = VERBS[arguments.verb]
    values = {argument.name: getattr(arguments, argument.name.replace("-", "_")) for argument in verb.arguments}
    result = await ask(arguments.control, verb.name, values)
    if isinstance(result, list):
        print(*result, sep="\n")
    elif result is not None:
        print(json.dumps(result, indent=2))
    return 0


_COMMANDS = {"serve": _serve, "mount": _mount, "ctl": _ctl}
_NAMESPACE = "it needs root; without it, work in a namespace of your own: unshare --user --map-root-user --mount"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfio-ap-sim", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve a machine", description="Serve a machine until a signal.")
    mount = commands.add_parser(
        "mount", help="mount a machine", description="Mount a machine's /sys on a directory until a signal."
    )
    for command in (serve, mount):
        command.add_argument("--config", type=Path, required=True, help="machine file (YAML)")
        command.add_argument(
            "--profile", choices=PROFILES, default="K7.1", help="which kernel (default: %(default)s)"
        )
        command.add_argument("--control", type=Path, help="unix socket for control verbs")
    serve.add_argument("--socket", type=Path, required=True, help="unix socket for file operations")
    mount.add_argument(
        "--uevents", action="store_true", help="send uevents to udev listeners of this network namespace"
    )
    mount.add_argument("directory", type=Path, metavar="DIR", help="directory that shall stand for /sys")

    ctl = commands.add_parser("ctl", help="work on a running machine", description="Work on a running machine.")
    ctl.add_argument("--control", type=Path, required=True, help="its control socket")
    verbs = ctl.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS.values():
        one = verbs.add_parser(verb.name, help=verb.help, description=verb.help.capitalize() + ".")
        for argument in verb.arguments:
            _add(one, argument)
    return parser


def _add(parser: argparse.ArgumentParser, argument: Argument) -> None:
    name = f"--{argument.name}" if argument.flag else argument.name
    if argument.kind is bool:
        parser.add_argument(name, action="store_true", help=argument.help)
    else:
        parser.add_argument(name, type=_number if argument.kind is int else str, help=argument.help)


def _number(text: str) -> int:
    """Return a decimal, 0x or 0o number; argparse words the error."""
    return int(text, 0)


_number.__name__ = "number"

if __name__ == "__main__":
    sys.exit(main())
