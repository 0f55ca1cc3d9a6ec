"""Noticing that a guest took or left a device: the kernel sends no event for it, so one queue of each is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from vfio_ap.host.ops import Data, HostOps, Read
from vfio_ap.host.view import HostView
from vfio_ap_agent import paths

_EVERY = 3.0
_DEADLINE = 10.0


async def watch_use(host: HostOps, view: Callable[[], HostView | None], changed: Callable[[], None]) -> None:
    """Call ``changed`` when a device's use differs from what the latest reading says; for ever."""
    while True:
        await asyncio.sleep(_EVERY)
        latest = view()
        if latest is not None and await use_differs(host, latest):
            changed()


async def use_differs(host: HostOps, view: HostView) -> bool:
    """Tell whether a queue that guests get (Q-18) has another status than the reading says.

    A host that does not answer in time differs, too: the next reading finds out how.
    """
    probes = {}
    for mdev in view.mdevs.values():
        if mdev.guest is not None and len(mdev.guest):
            apqn = mdev.guest.first()
            probes[Read(f"{paths.queue(apqn)}/status")] = apqn in mdev.queues_in_use
    if not probes:
        return False
    with contextlib.suppress(TimeoutError, OSError):
        results = await host.run(list(probes), deadline=_DEADLINE)
        now = [isinstance(result, Data) and result.content == b"in use\n" for result in results]
        return now != list(probes.values())
    return True
