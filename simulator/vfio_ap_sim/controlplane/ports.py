"""Free loopback ports."""

from __future__ import annotations

import random
import socket

from .errors import NoPortError

FIRST, LAST = 20000, 29999
"""Below Linux's ephemeral ports and Kubernetes' node ports: an outgoing connection never takes one of these while
its server is away for a moment."""


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As Go's servers do: connections of the last server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ``count`` different free ports. Raises NoPortError."""
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST + 1), 200):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise NoPortError("127.0.0.1", f"no {count} free ports from {FIRST} to {LAST}", "end other servers here")
    return found
