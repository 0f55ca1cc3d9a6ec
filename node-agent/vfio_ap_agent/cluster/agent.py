"""The loop of the agent in a cluster: a reason to look, a pass over the host, and what is said about it.

One pass at a time. What is learnt elsewhere (spec, uevents, kernel log, the kubelet) only pulls a trigger; what is
to be said is handed to the publisher, the Event poster and the device plugin, none of which can fail a pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.diff import HostChange
from vfio_ap.host.failures import MIGRATABLE_BUSY
from vfio_ap.host.report import MdevReport
from vfio_ap.host.view import HOST_DRIVER, HostView
from vfio_ap.host.wish import HostPlan
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_agent import status
from vfio_ap_agent.apply import Applier, Outcome
from vfio_ap_agent.cluster.announce import Announcer, Said, device_changed, found_changed
from vfio_ap_agent.cluster.conditions import Facts, conditions, state
from vfio_ap_agent.cluster.health import Health
from vfio_ap_agent.desired import Desired, parse
from vfio_ap_agent.devicelog import DeviceLog
from vfio_ap_agent.host.client import LanedHost, Stuck
from vfio_ap_agent.keys import picture
from vfio_ap_agent.samples import Samples
from vfio_ap_agent.statedir import StateDir
from vfio_ap_agent.triggers import Triggers

_LOG = logging.getLogger(__name__)
_SAMPLE_EVERY = 900.0
_OURS_BY_STATUS = ("Ready", "Incomplete", "Leaving")
"""States that are only said of devices that were ours."""
_OF_A_PASS = ("conditions", "observedGeneration")
"""Fields of a status that are said anew with each."""
_NO_BUS = "NoApBus"


class Outlet(Protocol):
    """Where the loop's results go."""

    def publish(self, document: dict[str, Any]) -> None:
        """Publish a status, if it is new."""

    def say(self, said: list[Said]) -> None:
        """Post Events, some time."""

    async def doubt(self) -> None:
        """Offer nothing new: what is offered may not be as it was."""

    async def create_node(self) -> None:
        """Create the APNode."""

    async def grant(self, granted: Mapping[str, str], reports: tuple[MdevReport, ...]) -> set[str]:
        """Offer devices to the kubelet; return the UUIDs of those that it accepted."""


class NodeAgent:
    """Everything that one node's agent knows between passes."""

    def __init__(
        self,
        host: LanedHost,
        applier: Applier,
        samples: Samples,
        state_dir: StateDir,
        outlet: Outlet,
        triggers: Triggers,
        health: Health,
    ) -> None:
        self._host = host
        self._applier = applier
        self._samples = samples
        self._state_dir = state_dir
        self._outlet = outlet
        self._triggers = triggers
        self._health = health
        self._announcer = Announcer()
        self._log = DeviceLog()
        self._apnode: dict[str, Any] | None = None
        self._synced = False
        self.known = asyncio.Event()
        """Set once there is an APNode of ours."""
        self._known: dict[str, Matrix | None] = {}
        self._last: HostView | None = None
        """The host at the end of the last pass."""
        self._status: dict[str, Any] = {}
        self._sampled = -_SAMPLE_EVERY
        self._generation = 0
        """Of the wish that the pass is about."""
        self._busy = False

    # -- what is learnt from the API server

    def observe(self, apnode: dict[str, Any]) -> None:
        """Take in our APNode as it is now."""
        first, old = self._apnode is None, self._apnode or {}
        self._apnode = apnode
        self.known.set()
        if first:
            status = apnode.get("status") or {}
            # Until we have read the host, what is known of it is what an agent before us read
            self._status = self._status or {key: value for key, value in status.items() if key not in _OF_A_PASS}
            mdevs = status.get("mdevs") or []
            self._known = {m["uuid"]: None for m in mdevs if m.get("state") in _OURS_BY_STATUS and m.get("uuid")}
        if first or old.get("spec") != apnode.get("spec"):
            desired = self.desired
            self._log.freeze({mdev.uuid for mdev in desired.wish.mdevs if mdev.frozen} if desired else ())
            self._triggers.pull("spec")

    def hear(self, text: str) -> None:
        """Take in a line of the kernel log."""
        if self._log.hear(text):
            self._triggers.pull("kernel log")

    def lose(self) -> None:
        """Take in that our APNode was deleted. What it wished for stays as it is until there is a new one."""
        self._apnode = None
        self._triggers.pull("spec")

    def sync(self) -> None:
        """Take in that the API server has told all it knows of our APNode."""
        if not self._synced:
            self._synced = True
            self._triggers.pull("spec")

    @property
    def last(self) -> HostView | None:
        """The host at the end of the last pass; None before the first and while one is on."""
        return None if self._busy else self._last

    @property
    def desired(self) -> Desired | None:
        """The wish, None where there is none yet."""
        spec = (self._apnode or {}).get("spec") or {}
        return parse(spec) if "mdevs" in spec else None

    # -- passes

    async def run(self, stop: asyncio.Event) -> None:
        """Do a pass whenever there is a reason to, until told to stop; a pass that has begun is finished."""
        while not stop.is_set():
            good = await self.turn()
            waiting = asyncio.ensure_future(self._triggers.wait(soon=not good))
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                stopping.cancel()

    async def turn(self) -> bool:
        """Do one pass and return whether the next has time; never raises for what host, disk or API server do."""
        self._busy = True
        try:
            return await self._turn()
        finally:
            self._busy = False

    async def _turn(self) -> bool:
        desired = self.desired
        # What is said is said of this wish: one that came meanwhile has not been looked at.
        self._generation = int(((self._apnode or {}).get("metadata") or {}).get("generation", 0))
        try:
            outcome = await self._pass(desired)
        except RefusedError as error:
            await self._blind(desired, unreadable=error.refusal)
        except TimeoutError:
            await self._blind(desired, stuck=_not_responding(self._host.last_stuck))
        except OSError as error:
            text = str(error) or type(error).__name__
            await self._blind(desired, unreadable=Refusal("HostUnreachable", "host", text, "it is tried again"))
        else:
            await self._tell(desired, outcome)
            self._last = outcome.view
            self._health.turn(read=True)
            return not any(refusal.reason == MIGRATABLE_BUSY for _, refusal in outcome.failures)
        self._health.turn(read=False)
        return False

    async def _pass(self, desired: Desired | None) -> Outcome:
        loop = asyncio.get_running_loop()
        if desired is None:
            outcome = await self._applier.inspect(Desired().wish, self._known)
            # Nobody wished for anything yet, so nothing is refused, to be done or leaving either.
            plan = HostPlan(release=outcome.plan.release)
            outcome = Outcome(outcome.view, plan, outcome.reports)
        else:
            moving = {mdev.uuid for mdev in desired.wish.mdevs if mdev.frozen}

            def notice(change: HostChange) -> None:
                said = device_changed(change, mine=True, moving=change.subject in moving)
                self._outlet.say([said])

            outcome = await self._applier.apply(desired.wish, self._known, before=self._look, notice=notice)
            self._known = {}  # written down by now; later the same UUID may be somebody else's
        if loop.time() - self._sampled >= _SAMPLE_EVERY:
            self._sampled = loop.time()
            await self._sample(outcome.view)
        elif back := _came_back(self._last, outcome.view):
            await self._sample(outcome.view, back)
        if self._apnode is None and self._synced:
            await self._outlet.create_node()
        return outcome

    async def _look(self, view: HostView) -> None:
        """See the host before it is changed: say what others did, and sample what may be about to leave."""
        self._outlet.say(found_changed(self._last, view, self._applier.ours))
        if self._last is None:
            self._sampled = asyncio.get_running_loop().time()
            await self._sample(view)

    async def _sample(self, view: HostView, apqns: list[Apqn] | None = None) -> None:
        try:
            await self._samples.take(self._host, view, apqns)
        except (RefusedError, TimeoutError, OSError) as error:
            _LOG.warning("keys and serial numbers were not sampled: %s", error)

    # -- what is said

    async def _tell(self, desired: Desired | None, outcome: Outcome) -> None:
        problems = list(desired.problems if desired else ())
        problems += [outcome.problem] if outcome.problem else []
        keys = picture(outcome.view, self._samples, desired.attested if desired else ())
        problems += keys.problems
        granted = desired.granted if desired else {}
        offered = await self._outlet.grant(granted, outcome.reports)
        stuck = self._host.left_behind
        facts = Facts(
            outcome.view,
            outcome.reports,
            tuple(problems),
            stuck=_not_responding(stuck[0]) if stuck else None,
            wished=desired is not None,
        )
        self._status = status.build(
            outcome.view,
            outcome.plan,
            outcome.reports,
            self._samples,
            keys,
            offered=offered,
            heard=self._log.lines,
        )
        self._status["observedGeneration"] = self._generation
        self._publish(facts)
        names = {mdev.uuid: mdev.name for mdev in desired.wish.mdevs} if desired else {}
        self._outlet.say(self._announcer.of(outcome, names, (*problems, *self._state_dir.problems)))

    async def _blind(
        self, desired: Desired | None, *, unreadable: Refusal | None = None, stuck: Refusal | None = None
    ) -> None:
        """Say that the host could not be read; what was read before stays in the status."""
        refusal = stuck or unreadable
        _LOG.warning("no pass: %s", refusal)
        if refusal is not None and refusal.reason == _NO_BUS and self._apnode is None:
            return
        await self._outlet.doubt()
        self._publish(Facts(None, unreadable=unreadable, stuck=stuck, wished=desired is not None))

    def _publish(self, facts: Facts) -> None:
        if self._apnode is None:
            return
        # A pass that could not read the host changes conditions only: the rest is as old as its generation.
        document = dict(self._status)
        document["summary"] = {**self._status.get("summary", {}), "state": state(facts)}
        document["conditions"] = conditions(facts, self._generation)
        self._outlet.publish(document)


def _came_back(old: HostView | None, new: HostView) -> list[Apqn]:
    """Return queues that the host's driver has again, whose keys can be read anew."""
    queues = old.queues if old else {}
    return [
        apqn
        for apqn, queue in new.queues.items()
        if queue.driver == HOST_DRIVER and apqn in queues and queues[apqn].driver != HOST_DRIVER
    ]


def _not_responding(stuck: Stuck | None) -> Refusal:
    path, seconds = (stuck.path, stuck.seconds) if stuck else ("sysfs", 0.0)
    text = f"did not answer within {seconds:.0f} s"
    return Refusal("SysfsTimeout", path, text, "a queue reset may take long; see the kernel log and the HMC")
