"""``python -m vfio_ap_sim.demo``: what ``make demo`` runs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from vfio_ap_kube.client import ApiError
from vfio_ap_sim.cluster import TookTooLongError
from vfio_ap_sim.controlplane import LauncherError, default_binaries
from vfio_ap_sim.controlplane.tools import OPTIONAL, TOOLS
from vfio_ap_sim.demo.play import play
from vfio_ap_sim.demo.proof import MismatchError
from vfio_ap_sim.demo.stage import Stage

_FAILURES = (MismatchError, TookTooLongError, LauncherError, ApiError, RuntimeError, OSError)


def main() -> int:
    """Run the demo; return 0 when everything was as it should be, 1 when not, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="make demo", description="The product from nothing, on simulated nodes.")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, to play with")
    options = parser.parse_args()
    # What a watch does to outlast a starting API server is no news in a demo.
    logging.basicConfig(level=logging.ERROR)
    stage = Stage()
    try:
        # Before anything is started, and where Ctrl-C ends a download or a build at once.
        default_binaries().get_all(TOOLS + OPTIONAL)
        stage.begin()
        asyncio.run(_run(stage, stay=options.keep))
    except _FAILURES as error:
        stage.fail(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print("demo: ok", flush=True)
    return 0


async def _run(stage: Stage, *, stay: bool) -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if not interrupted.is_set():  # a second one would only disturb what the first one stops
            interrupted.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        await play(stage, stay=stay, interrupted=interrupted)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


if __name__ == "__main__":
    sys.exit(main())
