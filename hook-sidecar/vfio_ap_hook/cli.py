"""``vfio-ap-hook``: the sidecar, its readiness probe, and its edit for people.

Exit codes: 0 done, ready, or told to stop; 1 not ready, refused or failed, and the output says why; 2 misused.
Only what a command needs is imported, for the probe's sake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vfio_ap_hook import paths

OK, NO, MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without one, serve: KubeVirt gives a sidecar no arguments."""
    words = (sys.argv[1:] if arguments is None else list(arguments)) or ["serve"]
    if words == ["ready"]:
        return _ready(paths.socket_dir(), paths.hold_file())
    from vfio_ap_hook.arguments import parser

    options = parser().parse_args(words)
    if options.command == "ready":
        return _ready(options.socket_dir, options.hold_file)
    if options.command == "edit":
        return _edit(options.uuid)
    return _serve(options.socket_dir, options.version)


def _ready(folder: str, hold_file: str) -> int:
    from vfio_ap_hook.ready import not_ready

    reason = not_ready(folder, hold_file)
    if reason:
        print(f"not ready: {reason}")
    return NO if reason else OK


def _edit(uuid: str) -> int:
    from vfio_ap_hook.domain import MAX_BYTES, add_hostdev
    from vfio_ap_hook.errors import RefusedError

    try:
        domain = add_hostdev(sys.stdin.buffer.read(MAX_BYTES + 1), uuid)
    except RefusedError as refusal:
        print(f"vfio-ap-hook: {refusal}", file=sys.stderr)
        return NO
    sys.stdout.buffer.write(domain)
    sys.stdout.buffer.flush()
    return OK


def _serve(folder: str, version: str | None) -> int:
    import logging

    from vfio_ap_hook.callbacks import VERSIONS, Callbacks
    from vfio_ap_hook.listener import listening
    from vfio_ap_hook.server import Server, stop_signals

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("hpack").setLevel(logging.WARNING)
    callbacks = Callbacks([version] if version else VERSIONS)
    try:
        with stop_signals() as stopped, listening(folder) as listener:
            server = Server(listener, callbacks.call)
            logging.info("listening in %s", folder)
            server.run(stopped, lambda: callbacks.over)
    except OSError as error:
        logging.error("cannot listen in %s: %s", folder, error)
        return NO
    server.close()
    return OK
