"""The readiness probe: whether KubeVirt may take this pod as ready.

KubeVirt starts a migration when every container of the target pod is ready, and has no time limit there; so a
target is held here until the operator lifts it. The pod's annotation is read by way of a downward API volume: the
pod's users, who may exec into it, cannot write it there, and a policy guards it at the API. Unknown is never yes.

Runs every second, so it imports next to nothing and speaks to the socket by hand.
"""

from __future__ import annotations

import os
import socket

from vfio_ap_hook.paths import socket_address

HOLD = b"ap.s390x.io/hold"
MAX_BYTES = 2 << 20
"""The API takes 256 KiB of annotations, and quoting makes at most eight of one."""
DEADLINE = 0.8
"""Seconds, less than the probe's period."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""What an HTTP/2 client says first: preface and empty settings (RFC 9113, 3.4). The server's settings follow."""
_FRAME_HEADER, _TYPE_AT, _SETTINGS = 9, 3, 4


def not_ready(folder: str, hold_file: str) -> str:
    """Return why the pod is not ready, as one sentence; empty when it is."""
    return _silent(folder) or _held(hold_file)


def _silent(folder: str) -> str:
    """Return why the hook cannot be used. A server that hangs accepts connections too, so it has to speak."""
    try:
        with socket_address(folder) as address, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(address)
            client.sendall(_PREFACE)
            answer = client.recv(_FRAME_HEADER, socket.MSG_WAITALL)
    except TimeoutError:
        return f"the hook does not answer within {DEADLINE} s"
    except OSError as error:
        return f"the hook's socket cannot be reached: {error.strerror}"
    if len(answer) < _FRAME_HEADER or answer[_TYPE_AT] != _SETTINGS:
        return "what answers at the hook's socket is not the hook"
    return ""


def _held(path: str) -> str:
    """Return why the pod is held; a pod without the volume's folder is not."""
    try:
        os.stat(os.path.dirname(path))  # noqa: PTH116, PTH120 - pathlib takes longer to import than this to run
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"held: the pod's annotations cannot be read: {error.strerror}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        return f"held: the pod's annotations cannot be read: {error.strerror}"
    if len(text) > MAX_BYTES:
        return "held: the pod's annotations are too long"
    return _held_by(text)


def _held_by(text: bytes) -> str:
    r"""Return why annotations as the downward API writes them hold the pod: lines ``key="value"`` in Go's quoting.

    >>> _held_by(b'a="1\\n2"\nap.s390x.io/hold="lifted"')
    ''
    """
    values = []
    for line in text.splitlines():
        key, equals, value = line.partition(b"=")
        if not equals or len(value) < len('""') or value[:1] + value[-1:] != b'""':
            return "held: the pod's annotations are not as the downward API writes them"
        if key == HOLD:
            values.append(value[1:-1])
    name = HOLD.decode()
    if len(values) != 1:
        return f"held: the pod has {'no' if not values else 'more than one'} annotation {name}"
    if values[0] == b"held":
        return "held: the operator has not let the migration start yet"
    return "" if values[0] == b"lifted" else f"held: annotation {name} is neither held nor lifted"
