"""Turns a container of a pod into something that runs: files, token, variables, devices, command line, process.

When it runs, and what comes of it, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vfio_ap_kube.client import Client
from vfio_ap_kube.events import EventPoster
from vfio_ap_sim.kubelet import environment, tokens, volumes
from vfio_ap_sim.kubelet.containers import Started
from vfio_ap_sim.kubelet.devices import DeviceManager
from vfio_ap_sim.kubelet.probes import Target
from vfio_ap_sim.kubelet.processes import LocalProcess, PlayedProcess
from vfio_ap_sim.kubelet.settings import Knobs

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the pods of one node run on."""

    client: Client
    cluster: Document
    """How a pod reaches the API server: a kubeconfig's ``cluster``."""
    events: EventPoster
    devices: DeviceManager
    folder: Path
    """Holds ``pods`` and ``logs``."""
    knobs: Knobs
    image_map: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extra_env: Mapping[str, str] = field(default_factory=dict)


class Launcher:
    """Starts the containers of one pod."""

    def __init__(self, machine: Machine, pod: Document) -> None:
        meta = pod["metadata"]
        self._machine = machine
        self._uid: str = meta["uid"]
        unique = f"{meta['namespace']}_{meta['name']}_{self._uid}"
        self._folder = machine.folder / "pods" / unique
        self.volumes = self._folder / "volumes"
        """Has a folder for each volume."""
        self.logs = machine.folder / "logs" / unique
        """One file a container; kept when the pod is gone."""
        self._token: tokens.PodToken | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def prepare(self, pod: Document) -> None:
        """Make the pod's folders, volumes and token.

        Raises:
            ApiError, ConfigError, OSError, KeyError: something that the pod names is not there (yet).
        """
        for folder in (self._folder, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        await volumes.prepare(self._machine.client, pod, self.volumes, self._machine.knobs.address)
        containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
        sources = [tokens.token_source(pod, spec) for spec in containers if self._prefix(spec) is not None]
        if source := next((source for source in sources if source is not None), None):
            token = tokens.PodToken(self._machine.client, self._machine.cluster, pod, source, self._folder)
            await token.prepare()
            self._token, self._keeper = token, asyncio.create_task(token.keep())

    def refresh(self, pod: Document) -> None:
        """Bring files that show the pod's metadata up to date."""
        volumes.refresh(pod, self.volumes, self._machine.knobs.address)

    async def start(self, pod: Document, spec: Document) -> Started:
        """Start a container once.

        Raises:
            ConfigError: it cannot be made from its specification, or no program stands for its image.
            OSError: its program cannot be started.
        """
        machine, prefix = self._machine, self._prefix(spec)
        if prefix is None:
            if not machine.knobs.play_unmapped:
                raise environment.ConfigError(f"no program stands for image {spec['image']}", "ErrImagePull")
            played = PlayedProcess()
            if _ends_by_itself(pod, spec):
                played.exit(0)
            return Started(played, None)
        base = {
            "PATH": os.pathsep.join([str(Path(prefix[0]).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self._folder),
            "HOSTNAME": pod["metadata"]["name"],
            "LANG": "C.UTF-8",
        }
        env = environment.environment(pod, spec, base, machine.knobs.address)
        for allocation in machine.devices.held(self._uid, spec["name"]):
            env |= allocation.envs
        if self._token is not None and tokens.token_source(pod, spec) is not None:
            env["KUBECONFIG"] = str(self._token.kubeconfig)
        volumes.make_sub_paths(spec, self.volumes)
        env |= environment.fill(machine.extra_env, str(self._folder), partial(volumes.mounted, spec))
        argv = environment.command_line(spec, prefix, env)
        process = await LocalProcess.start(argv, env, self._folder, self.logs / f"{spec['name']}.log")
        ports = {p["name"]: int(p["containerPort"]) for p in spec.get("ports", ()) if "name" in p}
        return Started(process, Target(machine.knobs.address, env, self._folder, ports))

    async def clear(self) -> None:
        """Remove the pod's files; its logs stay."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prefix(self, spec: Document) -> Sequence[str] | None:
        return self._machine.image_map.get(environment.image_repository(spec["image"]))


def _ends_by_itself(pod: Document, spec: Document) -> bool:
    """Tell whether the pod's other containers wait for this one to end: an init container that is no sidecar."""
    init = [c["name"] for c in pod["spec"].get("initContainers", ()) if c.get("restartPolicy") != "Always"]
    return spec["name"] in init
