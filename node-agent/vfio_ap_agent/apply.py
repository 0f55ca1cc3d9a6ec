"""Bringing a host to a wish: read, plan, carry out, read again, until there is nothing left to do.

What is ours is written down before it is made, so that whoever is killed at any write finds, at the next start,
either nothing or something of his own. Nothing is written, and no lock taken, when nothing is to be done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.diff import HostChange, tampered
from vfio_ap.host.handover import Preference, settle
from vfio_ap.host.ops import HostOps
from vfio_ap.host.plan import assignments, plan_host
from vfio_ap.host.report import MdevReport, report
from vfio_ap.host.view import GUEST_DRIVER, HOST_DRIVER, HostView, QueueView
from vfio_ap.host.wish import (
    Adopt,
    Assign,
    Configure,
    Create,
    EditMask,
    HostPlan,
    Ours,
    Override,
    Probe,
    Refilter,
    Remove,
    SetMigratable,
    Step,
    Unbind,
    Wish,
    gives_back,
)
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_agent import writes
from vfio_ap_agent.inventory import read_host
from vfio_ap_agent.inventory.files import Changed
from vfio_ap_agent.lock import config_lock
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import OursFile

_LOG = logging.getLogger(__name__)
_TRIES = 2
"""Times that a step may fail before its device is left alone: once may be somebody else's change in between."""


_ROUNDS = 20
Look = Callable[[HostView], Awaitable[None]]
Notice = Callable[[HostChange], None]
_RESTLESS = Refusal(
    "HostRestless", "host", "somebody else keeps changing what is being changed", "it is tried again later"
)


@dataclass(slots=True)
class Outcome:
    """What one pass found, did and left."""

    view: HostView
    plan: HostPlan
    reports: tuple[MdevReport, ...]
    done: list[Step] = field(default_factory=list)
    """Steps that were carried out and read back."""
    failures: list[tuple[Step, Refusal]] = field(default_factory=list)
    problem: Refusal | None = None
    """Why changing stopped for the whole host, if it did."""


@dataclass(slots=True)
class _Pass:
    """State of one pass."""

    view: HostView
    plan: HostPlan
    set_aside: dict[str, Refusal] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    keep_bits: bool = False
    done: list[Step] = field(default_factory=list)
    failures: list[tuple[Step, Refusal]] = field(default_factory=list)


class Applier:
    """Holds what is needed over passes; one pass at a time."""

    def __init__(
        self, host: HostOps, ours: OursFile, samples: Samples, lock: Path | None, prefer: Preference = "auto"
    ) -> None:
        self._host = host
        self._ours = ours
        self._samples = samples
        self._lock = lock
        self._prefer = prefer
        self._probed: set[Probe] = set()
        self._refiltered: set[Refilter] = set()
        """Both are tried once, and again when the host shows something new."""
        self._notice: Notice | None = None
        self._noticed: list[HostChange] = []
        """What others changed about our devices and was told; the same is told once while it lasts."""
        self._turn = asyncio.Lock()

    @property
    def ours(self) -> Ours:
        """What is ours, as written down."""
        return self._ours.ours

    async def inspect(self, wish: Wish, known: Mapping[str, Matrix | None] | None = None) -> Outcome:
        """Return what would be done, without doing it and without writing anything down."""
        view = await read_host(self._host, self.ours.mdevs)
        ours = self._actual_ours(view, wish, known or {})
        view = settle(view, ours, self._prefer)
        plan = plan_host(view, wish, ours)
        return Outcome(view, plan, report(view, wish, ours, plan))

    async def apply(
        self,
        wish: Wish,
        known: Mapping[str, Matrix | None] | None = None,
        *,
        before: Look | None = None,
        notice: Notice | None = None,
    ) -> Outcome:
        """Bring the host to the wish.

        ``before`` sees the host as it was found, before anything is changed. ``notice`` is told what others
        changed about our devices, whenever it is found, and before it is repaired.
        ``known`` are devices that were ours by another record (an APNode's status) if ours was lost. Raises
        RefusedError when the host cannot be read whole or ours cannot be written down, and TimeoutError and
        ConnectionError as ``HostOps.run``; then nothing further was written.
        """
        async with self._turn:
            self._notice = notice
            return await self._apply(wish, known or {}, before)

    async def _apply(self, wish: Wish, known: Mapping[str, Matrix | None], before: Look | None) -> Outcome:
        now = await self._plan(wish, known, {})
        if before is not None:
            await before(now.view)
        if not now.plan.steps:
            return self._outcome(now, wish, None)
        problem = None
        try:
            async with config_lock(self._lock):
                now = await self._plan(wish, known, {})
                rounds = _ROUNDS + _TRIES * len(wish.mdevs)
                while now.plan.steps:
                    if (rounds := rounds - 1) < 0:
                        raise RefusedError(_RESTLESS)
                    await self._round(now, wish)
                    now = await self._plan(wish, known, now.set_aside, now)
        except RefusedError as error:
            problem = error.refusal
            _LOG.warning("changes stopped: %s", problem)
        return self._outcome(now, wish, problem)

    def _outcome(self, now: _Pass, wish: Wish, problem: Refusal | None) -> Outcome:
        reports = report(now.view, wish, self.ours, now.plan)
        return Outcome(now.view, now.plan, reports, now.done, now.failures, problem)

    async def _plan(
        self, wish: Wish, known: Mapping[str, Matrix | None], aside: dict[str, Refusal], old: _Pass | None = None
    ) -> _Pass:
        """Read the host, put the books in order, and plan."""
        view = await read_host(self._host, self.ours.mdevs)
        self._ours.put(self._actual_ours(view, wish, known), view.boot)
        self._tell(tampered(view, wish, self.ours))
        self._probed = {probe for probe in self._probed if (q := view.queues.get(probe.apqn)) and not q.driver}
        view = settle(view, self.ours, self._prefer)
        plan = plan_host(view, wish, self.ours, aside)
        keep = old.keep_bits if old else False
        self._refiltered = {r for r in self._refiltered if (m := view.mdevs.get(r.uuid)) and m.guest == r.guest}
        tried: set[Step] = {*self._probed, *self._refiltered}
        steps = [step for step in plan.steps if step not in tried and not (keep and gives_back(step))]
        fresh = _Pass(view, replace(plan, steps=tuple(steps)), aside)
        if old is not None:
            fresh.tries, fresh.keep_bits, fresh.done, fresh.failures = old.tries, keep, old.done, old.failures
        return fresh

    def _tell(self, found: list[HostChange]) -> None:
        for change in found:
            if change not in self._noticed:
                _LOG.warning("mdev %s (not by this agent)", change)
                if self._notice is not None:
                    self._notice(change)
        self._noticed = found

    def _actual_ours(self, view: HostView, wish: Wish, known: Mapping[str, Matrix | None]) -> Ours:
        """Return our books without what is no longer true, and with what the kernel shows to be done."""
        every = IdSet.every()
        old = self.ours
        rebooted = bool(view.boot and self._ours.boot and view.boot != self._ours.boot)
        # After a boot the masks are whoever's who set them, even where the same bits are cleared again.
        bits = Matrix() if rebooted else old.bits
        bits = Matrix(bits.adapters & (every - view.masks.adapters), bits.domains & (every - view.masks.domains))
        wanted = {mdev.uuid: mdev.matrix for mdev in wish.mdevs}
        mdevs: dict[str, Matrix | None] = {}
        for uuid, told in {**known, **old.mdevs}.items():
            mdev = view.mdevs.get(uuid)
            if mdev is None and uuid not in wanted:
                continue
            if mdev is None or rebooted:
                told = None
            if mdev is not None and mdev.matrix is not None and mdev.matrix == wanted.get(uuid):
                told = mdev.matrix
            mdevs[uuid] = told
        names = {mdev.uuid: mdev.name for mdev in wish.mdevs}
        overrides = () if rebooted else (apqn for apqn in old.overrides if _still_ours(view, apqn))
        return Ours(bits, mdevs, frozenset(overrides), {u: names.get(u) or old.names.get(u, "") for u in mdevs})

    # -- a round

    async def _round(self, now: _Pass, wish: Wish) -> None:
        """Carry out the steps of a plan until one fails; the next plan starts from what the host then is."""
        await self._prepare(now)
        for step in now.plan.steps:
            try:
                await self._carry_out(step, now.view, wish)
            except (RefusedError, Changed, ConnectionError) as error:
                self._failed(now, step, wish, _refusal(step, error))
                return
            _LOG.info("done: %s", step)
            now.done.append(step)

    def _failed(self, now: _Pass, step: Step, wish: Wish, refusal: Refusal) -> None:
        _LOG.warning("failed: %s: %s", step, refusal)
        now.failures.append((step, refusal))
        hangs = refusal.reason == "SysfsTimeout"
        if refusal.reason in ("StateUnwritable", "HostUnreachable") or (hangs and not isinstance(step, Remove)):
            raise RefusedError(refusal)
        key = _key(step)
        now.tries[key] = now.tries.get(key, 0) + 1
        once = isinstance(step, Probe)
        if (
            not once
            and now.tries[key] < _TRIES
            and refusal.reason not in ("InUse", "IdlenessUnproven", "SysfsTimeout")
        ):
            return
        if isinstance(step, EditMask | Override | Unbind | Probe):
            self._leave_unready(now, step, wish, refusal)
        else:
            now.set_aside[step.uuid] = refusal

    def _leave_unready(
        self, now: _Pass, step: EditMask | Override | Unbind | Probe, wish: Wish, refusal: Refusal
    ) -> None:
        """Give up, for this pass, what needs a queue that would not move."""
        by_masks = now.view.kernel.queue_control == "Masks"
        if by_masks and isinstance(step, Probe):
            return  # the device can be made all the same; it is filtered until the queue is bound
        now.keep_bits |= by_masks or gives_back(step)
        if gives_back(step):
            return
        for wanted in wish.mdevs:
            mdev = now.view.mdevs.get(wanted.uuid)
            concerned = isinstance(step, EditMask) or wanted.matrix.contains(step.apqn)
            if concerned and (mdev is None or mdev.matrix != wanted.matrix):
                now.set_aside.setdefault(wanted.uuid, refusal)

    async def _carry_out(self, step: Step, view: HostView, wish: Wish) -> None:
        match step:
            case Adopt(uuid, matrix):
                self._own(uuid, matrix, view, wish)
            case Remove(uuid):
                await writes.remove(self._host, step, view)
                mdevs = {other: told for other, told in self.ours.mdevs.items() if other != uuid}
                self._ours.put(replace(self.ours, mdevs=mdevs), view.boot)
            case EditMask():
                await self._edit_mask(step, view)
            case Override():
                await writes.override(self._host, step)
            case Unbind():
                await writes.unbind(self._host, step)
            case Probe():
                self._probed.add(step)
                await writes.probe(self._host, step)
            case Create(uuid):
                self._own(uuid, None, view, wish)
                await writes.create(self._host, step)
            case Configure(uuid, matrix):
                await writes.configure(self._host, step)
                self._own(uuid, matrix, view, wish)
            case Refilter(uuid, matrix):
                self._refiltered.add(step)
                if view.kernel.ap_config:
                    await writes.configure(self._host, Configure(uuid, matrix))
                    return
                smaller = replace(matrix, adapters=matrix.adapters - step.adapters)
                for write in (*assignments(uuid, matrix, smaller), *assignments(uuid, smaller, matrix)):
                    self._own(uuid, write.leads_to, view, wish)
                    await writes.assign(self._host, write)
            case SetMigratable():
                await writes.set_migratable(self._host, step)
            case Assign(uuid, leads_to=matrix):
                await writes.assign(self._host, step)
                self._own(uuid, matrix, view, wish)

    async def _edit_mask(self, step: EditMask, view: HostView) -> None:
        bits = self.ours.bits
        if step.release:
            leaving = (q for q in view.queues if (q.adapter if step.file == "apmask" else q.domain) in step.bits)
            await self._sample(view, leaving)
            # Before the write: a bit that we cleared and do not know of would never be given back.
            self._ours.put(replace(self.ours, bits=_with(bits, step)), view.boot)
        await writes.edit_mask(self._host, step)
        if not step.release:
            self._ours.put(replace(self.ours, bits=_without(bits, step)), view.boot)

    async def _prepare(self, now: _Pass) -> None:
        """Before queues leave one by one: write down which are our doing, and sample what can be sampled yet."""
        taken = {step.apqn for step in now.plan.steps if isinstance(step, Override) and step.driver}
        self._ours.put(replace(self.ours, overrides=self.ours.overrides | taken), now.view.boot)
        leaving = [s.apqn for s in now.plan.steps if isinstance(s, Unbind) and not gives_back(s)]
        if leaving:
            await self._sample(now.view, leaving)

    async def _sample(self, view: HostView, apqns: Iterable[Apqn]) -> None:
        try:
            await self._samples.take(self._host, view, apqns)
        except TimeoutError:
            _LOG.warning("cards did not answer in time: the keys of queues that leave were not sampled")

    def _own(self, uuid: str, matrix: Matrix | None, view: HostView, wish: Wish) -> None:
        names = {**self.ours.names, **{mdev.uuid: mdev.name for mdev in wish.mdevs if mdev.uuid == uuid}}
        mdevs = {**self.ours.mdevs, uuid: matrix}
        self._ours.put(replace(self.ours, mdevs=mdevs, names=names), view.boot)


def _still_ours(view: HostView, apqn: Apqn) -> bool:
    """Tell whether an override of ours is there, or is cleared and its queue not with the host's driver again."""
    queue = view.queues.get(apqn, QueueView())
    on_its_way = not queue.override and queue.driver != HOST_DRIVER and view.masks.reserves(apqn)
    return apqn in view.queues and (queue.override == GUEST_DRIVER or on_its_way)


def _key(step: Step) -> str:
    match step:
        case EditMask(file=file):
            return file
        case Override() | Unbind() | Probe():
            return str(step.apqn)
        case _:
            return step.uuid


def _refusal(step: Step, error: Exception) -> Refusal:
    if isinstance(error, RefusedError):
        return error.refusal
    if isinstance(error, Changed):
        return Refusal("Vanished", str(error), "went away while it was changed")
    return Refusal("HostUnreachable", "host", str(error) or type(error).__name__, "it is tried again")


def _with(bits: Matrix, step: EditMask) -> Matrix:
    if step.file == "apmask":
        return Matrix(bits.adapters | step.bits, bits.domains)
    return Matrix(bits.adapters, bits.domains | step.bits)


def _without(bits: Matrix, step: EditMask) -> Matrix:
    if step.file == "apmask":
        return Matrix(bits.adapters - step.bits, bits.domains)
    return Matrix(bits.adapters, bits.domains - step.bits)
