"""Noticing what the kernel sends no event for: what others do to devices, and that a guest uses one.

Writes to the files of a device send no uevent, and sysfs tells inotify nothing, so they are read. What a device
holds is read twice a second: ``ap_config`` takes no lock (V-13). Whether it is used is read less often, from one
queue of each, because ``status`` waits while any queue is being reset (V-14).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from vfio_ap.errors import RefusedError
from vfio_ap.host.ops import Data, HostOps, List, Names, Op, Read, Result
from vfio_ap.host.view import HostView
from vfio_ap.matrix import Matrix, parse_matrix_file
from vfio_ap_agent import paths

EVERY = 0.5
"""Seconds between readings of what devices hold; with the triggers' debounce a change is noticed within one."""
_USE_EVERY = 6
"""Readings of what they hold for one of whether they are used."""
_DEADLINE = 10.0
_PATIENCE = 5.0
"""Seconds that a whole reading gets before the same difference is told again."""


async def keep_vigil(host: HostOps, view: Callable[[], HostView | None], changed: Callable[[], None]) -> None:
    """Call ``changed`` when the host differs from what the latest reading says; for ever.

    ``view`` returns that reading, None while the host is being read or changed by ourselves.
    """
    tick = 0
    told: HostView | None = None
    until = 0.0
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(EVERY)
        tick += 1
        latest = view()
        if latest is None or (latest is told and loop.time() < until):
            continue
        differs = await config_differs(host, latest)
        if not differs and tick % _USE_EVERY == 0:
            differs = await use_differs(host, latest)
        if differs and view() is latest:
            told, until = latest, loop.time() + _PATIENCE
            changed()


async def config_differs(host: HostOps, view: HostView) -> bool:
    """Tell whether devices came, went or hold something else than the reading says.

    A host that does not answer in time differs, too: the next reading finds out how. Without ``ap_config`` the
    file ``matrix`` is read, where the last reading found that safe (V-12).
    """
    if not view.kernel.vfio_ap:
        return False
    file = "ap_config" if view.kernel.ap_config else "matrix"
    held = {uuid: mdev.matrix for uuid, mdev in view.mdevs.items() if mdev.matrix is not None}
    ops: list[Op] = [List(paths.MDEV_BUS), *(Read(f"{paths.mdev(uuid)}/{file}") for uuid in held)]
    with contextlib.suppress(TimeoutError, OSError):
        names, *texts = await host.run(ops, deadline=_DEADLINE)
        if _listed(names) != {uuid for uuid, mdev in view.mdevs.items() if not mdev.leaving}:
            return True
        return any(not _holds(matrix, text) for matrix, text in zip(held.values(), texts, strict=True))
    return True


def _listed(result: Result) -> set[str]:
    """Return the devices of a listing; none where the bus has no directory."""
    return set(result.names) if isinstance(result, Names) else set()


def _holds(matrix: Matrix, result: Result) -> bool:
    if not isinstance(result, Data):
        return False
    text = result.content.decode("latin-1")
    try:
        if text.startswith("0x"):
            return Matrix.from_ap_config(text) == matrix
        return parse_matrix_file(text) == (matrix.adapters, matrix.domains)
    except RefusedError:
        return False


async def use_differs(host: HostOps, view: HostView) -> bool:
    """Tell whether a queue that guests get (Q-18) has another status than the reading says."""
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
