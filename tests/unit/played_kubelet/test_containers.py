"""A container's life with real processes: restarts, probes, ends."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vfio_ap_sim.kubelet.containers import Container, Started
from vfio_ap_sim.kubelet.environment import ConfigError
from vfio_ap_sim.kubelet.probes import Target
from vfio_ap_sim.kubelet.processes import LocalProcess, PlayedProcess
from vfio_ap_sim.kubelet.settings import Knobs

from .support import PYTHON, Bell

KNOBS = Knobs(first_backoff=0.01, longest_backoff=0.04)
SLEEP = "import signal; print('up', flush=True); signal.pause()"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Callable]:
    def with_code(code: str, *, prefix: list[str] = PYTHON) -> Callable:
        async def start() -> Started:
            env = {"PATH": os.environ["PATH"]}
            process = await LocalProcess.start([*prefix, code], env, tmp_path, tmp_path / "log")
            return Started(process, Target("127.0.0.1", env, tmp_path, {}))

        return start

    return with_code


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[asyncio.Task]:
    task = asyncio.create_task(container.run())
    try:
        yield task
    finally:
        await container.stop(0)
        await task


def output(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


async def line(tmp_path: Path, count: int = 1) -> None:
    """Wait for the process to have printed; a file gives no event, so this is the one place that looks again."""
    async with asyncio.timeout(10):
        while len(output(tmp_path)) < count:
            await asyncio.sleep(0.005)


async def test_it_runs_and_is_ready_without_probes(launch, bell: Bell, tmp_path: Path):
    container = Container({"name": "c"}, "Always", launch(SLEEP), KNOBS, bell.ring)
    assert container.view.state == {"waiting": {"reason": "ContainerCreating"}}
    async with running(container):
        await bell.until(lambda: container.view.ready and container.view.started)
        assert "running" in container.view.state
        await line(tmp_path)
    assert container.view.final and not container.view.ready


async def test_it_is_restarted_when_killed_and_says_what_happened(launch, bell: Bell):
    container = Container({"name": "c"}, "Always", launch(SLEEP), KNOBS, bell.ring)
    async with running(container):
        await bell.until(lambda: container.view.ready)
        assert isinstance(container.process, LocalProcess)
        first = container.process.pid
        os.kill(first, signal.SIGKILL)
        await bell.until(lambda: container.view.restarts == 1 and container.view.ready)
        assert isinstance(container.process, LocalProcess) and container.process.pid != first
        assert container.view.last_state["terminated"]["exitCode"] == 137


@pytest.mark.looptime
async def test_pauses_double_up_to_the_longest_and_start_afresh_after_a_long_run():
    """The first restart is at once, as the kubelet's is."""
    lives = iter([0, 0, 0, 0, 0, 601, 0, 0])
    starts: list[float] = []
    done = asyncio.Event()
    clock = asyncio.get_running_loop().time

    async def start() -> Started:
        starts.append(clock())
        process, life = PlayedProcess(), next(lives, None)
        if life is None:
            done.set()
        else:
            asyncio.get_running_loop().call_later(life, process.exit, 3)
        return Started(process, None)

    states = []
    knobs = Knobs(first_backoff=10, longest_backoff=40)
    container = Container({"name": "c"}, "Always", start, knobs, lambda: states.append(container.view.state))
    async with running(container):
        await done.wait()
    pauses = [round(later - sooner) for sooner, later in itertools.pairwise(starts)]
    assert pauses == [0, 10, 20, 40, 40, 601, 10, 20]
    said = {state["waiting"]["message"] for state in states if "waiting" in state}
    assert said == {f"back-off {seconds}s restarting failed container=c" for seconds in (10, 20, 40)}


@pytest.mark.parametrize(
    ("policy", "code", "restarts"), [("Never", 3, False), ("OnFailure", 0, False), ("OnFailure", 3, True)]
)
async def test_the_restart_policy(launch, bell: Bell, policy: str, code: int, restarts: bool):
    container = Container({"name": "c"}, policy, launch(f"raise SystemExit({code})"), KNOBS, bell.ring)
    async with running(container):
        await bell.until(lambda: container.view.final or container.view.restarts > 0)
        assert (container.view.restarts > 0) == restarts
        assert container.view.final != restarts
        assert restarts or container.view.exit_code == code


async def test_it_ends_on_sigterm_and_may_take_its_time(launch, bell: Bell, tmp_path: Path):
    tidy = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.1), sys.exit(5)))"
    container = Container({"name": "c"}, "Always", launch(f"{tidy}; {SLEEP}"), KNOBS, bell.ring)
    async with running(container):
        await line(tmp_path)
        await container.stop(30)
        assert container.view.state["terminated"]["exitCode"] == 5
        assert container.view.final and container.view.restarts == 0


async def test_it_is_killed_when_it_does_not_hear(launch, bell: Bell, tmp_path: Path):
    container = Container({"name": "c"}, "Always", launch(DEAF), KNOBS, bell.ring)
    async with running(container):
        await line(tmp_path)
        await container.stop(0.05)
        assert container.view.state["terminated"]["exitCode"] == 137


async def test_what_it_left_behind_goes_with_it(launch, bell: Bell, tmp_path: Path):
    child = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    code = f"import subprocess, sys; p = {child}; print(p.pid, flush=True); p.wait()"
    container = Container({"name": "c"}, "Never", launch(code), KNOBS, bell.ring)
    async with running(container):
        await line(tmp_path, 2)
        process = os.pidfd_open(next(int(word) for word in output(tmp_path) if word.isdigit()))
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(process, gone.set)
        await container.stop(30)
        async with asyncio.timeout(10):
            await gone.wait()
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)


async def test_a_program_that_is_not_there(launch, bell: Bell):
    container = Container({"name": "c"}, "Never", launch("", prefix=["no-such-program"]), KNOBS, bell.ring)
    async with running(container):
        await bell.until(lambda: container.view.final)
        ended = container.view.state["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
        assert "no-such-program" in ended["message"]


async def test_a_specification_that_cannot_be_met_waits_and_is_tried_again(bell: Bell):
    tried = 0

    async def start() -> Started:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise ConfigError("no such thing", "ErrImagePull")
        return Started(PlayedProcess(), None)

    container = Container({"name": "c"}, "Always", start, KNOBS, bell.ring)
    async with running(container):
        await bell.until(
            lambda: container.view.state == {"waiting": {"reason": "ErrImagePull", "message": "no such thing"}}
        )
        await bell.until(lambda: container.view.ready)
        assert container.view.restarts == 0


async def test_readiness_follows_its_probe(launch, bell: Bell, tmp_path: Path):
    probe = {"exec": {"command": ["test", "-e", "ready"]}, "periodSeconds": 0.01, "timeoutSeconds": 5}
    container = Container(
        {"name": "c", "readinessProbe": probe | {"failureThreshold": 1}}, "Always", launch(SLEEP), KNOBS, bell.ring
    )
    async with running(container):
        await bell.until(lambda: container.view.started)
        assert not container.view.ready
        (tmp_path / "ready").touch()
        await bell.until(lambda: container.view.ready)
        (tmp_path / "ready").unlink()
        await bell.until(lambda: not container.view.ready)
        assert container.view.restarts == 0


async def test_a_failed_liveness_probe_restarts(launch, bell: Bell, tmp_path: Path):
    (tmp_path / "alive").touch()
    probe = {
        "exec": {"command": ["test", "-e", "alive"]},
        "periodSeconds": 0.01,
        "timeoutSeconds": 5,
        "failureThreshold": 2,
    }
    container = Container({"name": "c", "livenessProbe": probe}, "Always", launch(SLEEP), KNOBS, bell.ring)
    async with running(container):
        await bell.until(lambda: container.view.ready)
        (tmp_path / "alive").unlink()
        await bell.until(lambda: container.view.restarts == 1)
        assert container.view.last_state["terminated"]["exitCode"] == 143
        (tmp_path / "alive").touch()
        await bell.until(lambda: container.view.ready)


async def test_a_startup_probe_comes_before_all_others(launch, bell: Bell, tmp_path: Path):
    started = {
        "exec": {"command": ["test", "-e", "started"]},
        "periodSeconds": 0.01,
        "timeoutSeconds": 5,
        "failureThreshold": 10_000,
    }
    never = {"exec": {"command": ["false"]}, "periodSeconds": 0.01, "failureThreshold": 1}
    spec = {"name": "c", "startupProbe": started, "livenessProbe": never}
    container = Container(spec, "Never", launch(SLEEP), KNOBS, bell.ring)
    async with running(container):
        await line(tmp_path)
        assert not container.view.started and "running" in container.view.state
        (tmp_path / "started").touch()
        await bell.until(lambda: container.view.final)  # the liveness probe struck, now that it may
        assert container.view.exit_code == 143


async def test_a_played_container_runs_until_told_and_is_not_probed(bell: Bell):
    async def start() -> Started:
        return Started(PlayedProcess(), None)

    spec = {"name": "c", "readinessProbe": {"exec": {"command": ["false"]}}}
    container = Container(spec, "Never", start, KNOBS, bell.ring)
    async with running(container):
        await bell.until(lambda: container.view.ready)
        assert isinstance(container.process, PlayedProcess)
        container.process.exit(7)
        await bell.until(lambda: container.view.final)
        assert container.view.exit_code == 7
