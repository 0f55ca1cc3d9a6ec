"""``vfio-ap-agent``: the agent on a plain KVM host, and the entry of the agent in a cluster.

Exit codes: 0 the host is as wished (or could be read); 1 part of the wish was refused or failed, and the output
says which; 2 the command line or the desired file is wrong; 3 the host cannot be read, or has no AP bus.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host import grid
from vfio_ap.host.diff import HostChange, changes
from vfio_ap.host.handover import settle
from vfio_ap.host.report import recorded
from vfio_ap.host.view import HostView
from vfio_ap.host.wish import HostPlan, Ours
from vfio_ap_agent import render, status
from vfio_ap_agent.apply import Applier, Outcome
from vfio_ap_agent.arguments import parser
from vfio_ap_agent.definitions import Definitions, mask_hint
from vfio_ap_agent.desired import Desired, load
from vfio_ap_agent.host.client import LanedHost, open_host
from vfio_ap_agent.host.events import kernel_log, uevents
from vfio_ap_agent.inventory import read_host
from vfio_ap_agent.keys import KeyPicture, picture
from vfio_ap_agent.lock import DEFAULT as DEFAULT_LOCK
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile, StateDir
from vfio_ap_agent.triggers import Triggers
from vfio_ap_agent.vigil import keep_vigil

OK, REFUSED, USAGE, NO_HOST = 0, 1, 2, 3
_PERIOD = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = parser((__doc__ or "").replace("``", "")).parse_args(argv)
    if args.command == "run":
        from vfio_ap_agent.cluster.run import run_agent  # only here: a plain host has no cluster packages

        return run_agent(args, lock_of(args))
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s"
    )
    try:
        desired = load(args.desired) if args.command in ("plan", "apply") else Desired()
    except RefusedError as error:
        print(f"vfio-ap-agent: {render.refusal(error.refusal)}", file=sys.stderr)
        return USAGE
    try:
        return asyncio.run(_command(args, desired))
    except KeyboardInterrupt:
        return OK
    except RefusedError as error:
        text = render.refusal(error.refusal)
    except TimeoutError:
        text = "the host does not answer; a queue reset may take long, or a read hangs in the kernel"
    except OSError as error:
        text = f"cannot reach the host: {error}"
    print(f"vfio-ap-agent: {text}", file=sys.stderr)
    return NO_HOST


def lock_of(args: argparse.Namespace) -> Path | None:
    """Return the lock file to use: only the real host is shared with other tools."""
    if args.lock_file == "none" or (args.lock_file is None and args.sysfs):
        return None
    return Path(args.lock_file) if args.lock_file else DEFAULT_LOCK


async def _command(args: argparse.Namespace, desired: Desired) -> int:
    host = open_host(args.sysfs)
    try:
        state = StateDir(args.state_dir)
        ours, samples = OursFile(state), Samples(state)
        for problem in state.problems:
            print(f"vfio-ap-agent: {render.refusal(problem)}", file=sys.stderr)
        if args.command == "inventory":
            view = settle(await read_host(host, ours.ours.mdevs), ours.ours, args.queue_control)
            _show_inventory(args, view, ours.ours, samples)
            return OK
        if args.command == "watch":
            await _watch(args, host, ours.ours)
            return OK
        applier = Applier(host, ours, samples, lock_of(args), args.queue_control)
        dry = args.command == "plan" or args.dry_run
        outcome = await (
            applier.inspect(desired.wish) if dry else applier.apply(desired.wish, notice=_say_foreign)
        )
        _show_outcome(args, desired, outcome, applier.ours, samples, dry=dry)
        undefined = [] if dry else _define(args, Definitions(state), outcome, applier.ours)
        refused = bool(outcome.plan.refusals) or outcome.problem is not None or bool(desired.problems)
        unready = not dry and any(r.state in ("Failed", "Pending", "Incomplete") for r in outcome.reports)
        return REFUSED if refused or unready or undefined else OK
    finally:
        await host.close()


def _say_foreign(change: HostChange) -> None:
    print(f"vfio-ap-agent: mdev {change} (not by this agent)", file=sys.stderr)


def _define(args: argparse.Namespace, definitions: Definitions, outcome: Outcome, ours: Ours) -> list[Refusal]:
    """Keep mdevctl's definitions beside the devices; return and print what could not be done."""
    problems = definitions.forget(ours.mdevs)
    if args.persist is not None:
        problems += definitions.persist(args.persist, outcome, ours.mdevs)
        if not problems and (hint := mask_hint(outcome)):
            print(f"vfio-ap-agent: for the masks to outlive a boot, too: {hint}", file=sys.stderr)
    for problem in problems:
        print(f"vfio-ap-agent: {render.refusal(problem)}", file=sys.stderr)
    return problems


def _show_inventory(args: argparse.Namespace, view: HostView, ours: Ours, samples: Samples) -> None:
    if args.output == "human":
        _picture(view, ours)
    else:
        keys = picture(view, samples, ())
        _document(args.output, status.build(view, HostPlan(), recorded(view, ours), samples, keys))


def _picture(view: HostView, ours: Ours) -> None:
    sys.stdout.write(render.inventory(view, ours.legend(), shutil.get_terminal_size((110, 40)).columns))
    sys.stdout.flush()


def _show_outcome(
    args: argparse.Namespace, desired: Desired, outcome: Outcome, ours: Ours, samples: Samples, *, dry: bool
) -> None:
    keys = picture(outcome.view, samples, desired.attested)
    if args.output != "human":
        document = status.build(outcome.view, outcome.plan, outcome.reports, samples, keys)
        document["steps"] = [str(step) for step in (outcome.plan.steps if dry else outcome.done)]
        document["problems"] = [str(problem) for problem in _problems(desired, outcome, keys)]
        _document(args.output, document)
        return
    print(render.steps(outcome.plan.steps if dry else outcome.done, done=not dry))
    print()
    print(render.reports(outcome.reports))
    if text := render.release(outcome.plan.release):
        print(f"\n{text}")
    if not dry:
        print()
        width = shutil.get_terminal_size((110, 40)).columns
        sys.stdout.write(grid.render(outcome.view, names=ours.legend(), width=width))
    for problem in _problems(desired, outcome, keys):
        print(f"vfio-ap-agent: {render.refusal(problem)}", file=sys.stderr)


def _problems(desired: Desired, outcome: Outcome, keys: KeyPicture) -> list[Refusal]:
    """Return what no device's own line tells."""
    told = {report.note for report in outcome.reports}
    found = [*desired.problems, *keys.problems, *([outcome.problem] if outcome.problem else [])]
    return [problem for problem in dict.fromkeys(found) if problem not in told]


def _document(form: str, document: dict[str, Any]) -> None:
    if form == "json":
        print(json.dumps(document, indent=2))
    else:
        sys.stdout.write(_yaml(document))


def _yaml(document: object) -> str:
    import yaml  # only here: the agent in a cluster writes none, and has little memory

    return str(yaml.safe_dump(document, sort_keys=False))


async def _watch(args: argparse.Namespace, host: LanedHost, ours: Ours) -> None:
    """Print changes and kernel log lines until interrupted."""
    triggers = Triggers(_PERIOD)
    view = await read_host(host)
    if args.output == "human":
        _picture(view, ours)

    async def log_lines() -> None:
        async for line in kernel_log(args.sysfs):
            if "vfio_ap" in line.text:
                _say(args.output, {"kernel": line.text}, f"kernel: {line.text}")

    async with asyncio.TaskGroup() as group:
        group.create_task(triggers.follow(uevents(args.sysfs)))
        group.create_task(log_lines())
        group.create_task(keep_vigil(host, lambda: view, lambda: triggers.pull("vigil")))
        while True:
            await triggers.wait()
            with contextlib.suppress(RefusedError, TimeoutError, ConnectionError):
                old, view = view, await read_host(host)
                for change in changes(old, view):
                    document = {"kind": change.kind, "subject": change.subject, "text": change.text}
                    _say(args.output, document, str(change))


def _say(form: str, document: dict[str, str], text: str) -> None:
    if form == "human":
        print(text, flush=True)
    elif form == "json":
        print(json.dumps(document), flush=True)
    else:
        print(_yaml([document]), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
