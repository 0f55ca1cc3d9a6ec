"""One container's life: started, probed, restarted with a growing pause, ended with grace.

It reports what it is through ``view``; what that means for its pod is decided in ``podstatus``. It does not know
the API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vfio_ap_sim.kubelet import probes
from vfio_ap_sim.kubelet.environment import ConfigError
from vfio_ap_sim.kubelet.processes import Process
from vfio_ap_sim.kubelet.settings import Knobs

Document = dict[str, Any]


def stamp() -> str:
    """Return the time now as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class View:
    """What a container is right now, in the words of a pod's status."""

    state: Document
    last_state: Document = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    final: bool = False
    """Whether it ended for good."""

    @property
    def exit_code(self) -> int:
        """Its exit code; 0 while it has not ended."""
        return int(self.state.get("terminated", {}).get("exitCode", 0))


@dataclass(frozen=True, slots=True)
class Started:
    """A process and how to probe it; None where probes are played too."""

    process: Process
    target: probes.Target | None


class Container:
    """Runs one container of a pod from ``run`` until it ends for good."""

    def __init__(
        self,
        spec: Document,
        policy: str,
        start: Callable[[], Awaitable[Started]],
        knobs: Knobs,
        changed: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            spec: the container in the pod's specification.
            policy: its restart policy: Always, OnFailure or Never.
            start: starts its process; raises OSError or ConfigError where that fails.
            knobs: backoff.
            changed: called whenever ``view`` changed.
        """
        self.spec = spec
        self.view = View({"waiting": {"reason": "ContainerCreating"}})
        self.process: Process | None = None
        self._policy = policy
        self._start = start
        self._knobs = knobs
        self._changed = changed
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._killer: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return str(self.spec["name"])

    async def run(self) -> None:
        """Run it, and again as its policy says, until it ends for good or ``stop`` ended it."""
        pause = 0.0
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                began = asyncio.get_running_loop().time()
                code = await self._once()
                if code is not None and not self._again(code):
                    return
                if asyncio.get_running_loop().time() - began > 2 * self._knobs.longest_backoff:
                    pause = 0.0
                if pause or code is None:
                    await self._pause(code, pause or self._knobs.first_backoff)
                pause = min(max(2 * pause, self._knobs.first_backoff), self._knobs.longest_backoff)
        finally:
            self.view.final = True
            self._ended.set()
            self._changed()

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, SIGKILL after ``grace`` seconds, no restart. Return when it has ended."""
        self._stopping.set()
        if self.process is not None:
            await self._end_process(self.process, grace)
        await self._ended.wait()

    async def _once(self) -> int | None:
        """Start it once and wait for its end; None where it could not be started."""
        try:
            started = await self._start()
        except ConfigError as error:
            self._set({"waiting": {"reason": error.reason, "message": str(error)}})
            return None
        except OSError as error:
            self._terminated(128, stamp(), "StartError", str(error))
            return 128
        began = stamp()
        self.process = started.process
        try:
            if self._stopping.is_set():
                started.process.kill()
            self._set({"running": {"startedAt": began}})
            async with asyncio.TaskGroup() as group:
                prober = group.create_task(self._probe(started))
                code = await started.process.wait()
                prober.cancel()
        finally:
            started.process.kill()  # what it left behind goes too, as with a container's first process
            self.process = None
        self._terminated(code, began, "Completed" if code == 0 else "Error")
        return code

    def _again(self, code: int) -> bool:
        again = self._policy == "Always" or (self._policy == "OnFailure" and code != 0)
        if again and not self._stopping.is_set():
            self.view.restarts += 1
            self.view.last_state = self.view.state
            return True
        return False

    async def _pause(self, code: int | None, seconds: float) -> None:
        if code is not None:
            message = f"back-off {seconds:g}s restarting failed container={self.name}"
            self._set({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        if self._stopping.is_set() and code is not None:
            self._set(self.view.last_state)

    async def _probe(self, started: Started) -> None:
        """Follow the container's probes while it runs; without a target everything is taken to be well."""
        target = started.target
        if target is not None and (startup := self.spec.get("startupProbe")):
            await probes.follow(startup, target, lambda good: None if good else self._unwell(startup), once=True)
        self.view.started = True
        readiness, liveness = self.spec.get("readinessProbe"), self.spec.get("livenessProbe")
        async with asyncio.TaskGroup() as group:
            if target is not None and liveness:
                group.create_task(
                    probes.follow(liveness, target, lambda good: None if good else self._unwell(liveness))
                )
            if target is not None and readiness:
                group.create_task(probes.follow(readiness, target, self._set_ready))
            else:
                self._set_ready(True)

    def _unwell(self, probe: Document) -> None:
        """End the process for a failed probe; its policy says what comes then."""
        if (process := self.process) is not None:
            grace = probe.get("terminationGracePeriodSeconds", 30)
            self._killer = asyncio.create_task(self._end_process(process, grace))

    @staticmethod
    async def _end_process(process: Process, grace: float) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _set_ready(self, ready: bool) -> None:
        if ready != self.view.ready:
            self.view.ready = ready
        self._changed()

    def _set(self, state: Document) -> None:
        self.view.state = state
        if "running" not in state:
            self.view.ready = self.view.started = False
        self._changed()

    def _terminated(self, code: int, began: str, reason: str, message: str = "") -> None:
        ended = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": stamp()}
        self._set({"terminated": ended | ({"message": message} if message else {})})
