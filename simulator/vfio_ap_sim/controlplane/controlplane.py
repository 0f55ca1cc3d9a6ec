"""The control plane itself: starts etcd and the Kubernetes servers, awaits them, and takes everything away.

It plays no nodes and knows no product; how each server is called is in ``commands``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from . import audit, commands, rundir
from .binaries import Located, default_binaries
from .commands import LOOPBACK, SERVICE_IP, Ports
from .errors import CommandFailedError
from .kubeconfig import write_kubeconfig
from .pki import Pki
from .ports import free_ports
from .probes import https_ok
from .process import Server

DEADLINE = 90.0
"""Seconds that a server may take to become ready; a few suffice on an idle machine."""
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL when everything ends."""
OUTAGE_GRACE = 2.0
"""The same when kube-apiserver goes alone: it would wait a minute for its clients' watches, and loses nothing."""

_OURS = ("etcd", "pki", "kube", "log")


class ControlPlane:
    """A running control plane on loopback ports; ``async with`` starts and ends it.

    ``run_dir`` holds its keys, logs, kubeconfigs and etcd's data; without one a short temporary folder is made. At
    the end a temporary folder goes with all that is in it, and a given one loses what is ours and goes if that
    empties it; with ``keep`` all stays. Given again, a kept folder's cluster goes on where it was.
    With ``account`` kube-apiserver writes one of all requests, for ``audit`` to read.

    Methods may be called from any event loop, one after the other. Use it on a thread that outlives it: the kernel
    ends the servers together with the thread that started them.
    """

    def __init__(
        self,
        run_dir: Path | None = None,
        *,
        keep: bool = False,
        binaries: Mapping[str, Located] | None = None,
        account: bool = False,
    ) -> None:
        self._given = run_dir
        self._account = account
        self._keep = keep
        self._binaries = binaries
        self._servers: list[Server] = []
        self._root: Path | None = None
        self._alive: IO[str] | None = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Get the binaries, start all servers and return when all are ready.

        Raises BinaryUnavailableError, ProcessDiedError, NotReadyError or NoPortError, with nothing left behind.
        """
        located = self._binaries
        if located is None:
            located = await asyncio.to_thread(default_binaries().get_all)
        self.binaries: dict[str, Path] = {name: found.path for name, found in located.items()}
        """Paths of the binaries by name, ``helm`` and ``kubectl`` among them."""
        try:
            self._prepare()
            self._etcd.start()
            await self._etcd.ready(
                https_ok(self.ports.etcd, "/readyz", self.pki.etcd_ca.files.cert, self.pki.etcd_client), DEADLINE
            )
            await self.start_apiserver()
            self._controller_manager.start()
            self._scheduler.start()
            await asyncio.gather(
                self._ready(self._controller_manager, self.ports.controller_manager, "/healthz"),
                self._ready(self._scheduler, self.ports.scheduler, "/readyz"),
                # Until it exists no pod is admitted to the namespace.
                self._ready(
                    self._controller_manager,
                    self.ports.apiserver,
                    "/api/v1/namespaces/default/serviceaccounts/default",
                ),
            )
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all servers, clients first, and delete what was made. May be called twice."""
        try:
            if self._servers:
                await asyncio.gather(self._scheduler.stop(GRACE), self._controller_manager.stop(GRACE))
                await self._apiserver.stop(GRACE)
                await self._etcd.stop(GRACE)
        finally:
            for server in self._servers:
                server.kill()
            self._servers.clear()
            self._clean()

    async def stop_apiserver(self) -> None:
        """End kube-apiserver alone; etcd keeps its objects. Return when it has left its port."""
        await self._apiserver.stop(OUTAGE_GRACE)

    async def start_apiserver(self) -> None:
        """Start kube-apiserver, on the same port as before, and return when it is ready."""
        self._apiserver.start()
        await self._ready(self._apiserver, self.ports.apiserver, "/readyz")

    def client_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig with a client certificate for ``user`` in ``groups``, made when asked for.

        For a node: ``system:node:NAME`` in ``system:nodes``.
        """
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", user)[:60]
        digest = hashlib.sha256("\0".join((user, *groups)).encode()).hexdigest()[:8]
        name = f"{readable}-{digest}"
        client = self.pki.ca.client(f"client-{name}", user, groups)
        path = self.run_dir / "kube" / f"{name}.kubeconfig"
        return write_kubeconfig(path, self.url, self.pki.ca.files.cert, client)

    async def kubectl(self, *args: str, stdin: str = "", timeout: float = 60) -> str:  # noqa: ASYNC109 - a command's own
        """Run kubectl as the administrator and return its standard output. Raises CommandFailedError.

        ``stdin`` goes to its standard input (``apply -f -``); ``timeout`` is in seconds.
        """
        return await asyncio.to_thread(self.kubectl_sync, *args, stdin=stdin, timeout=timeout)

    def kubectl_sync(self, *args: str, stdin: str = "", timeout: float = 60) -> str:
        """Do what ``kubectl`` does, blocking."""
        command = [str(self.binaries["kubectl"]), f"--kubeconfig={self.kubeconfig}"]
        command.append(f"--cache-dir={self.run_dir / 'kube' / 'cache'}")
        subject = " ".join(("kubectl", *args))
        try:
            done = subprocess.run(
                [*command, *args],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                env={**os.environ, "KUBERC": "off"},  # the user's own preferences do not change what a test does
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailedError(subject, f"no end after {timeout:g} s", "give it a longer timeout") from error
        if done.returncode:
            raise CommandFailedError(subject, f"ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @property
    def run_dir(self) -> Path:
        """Folder of this run, while it is started."""
        assert self._root is not None, "not started"
        return self._root

    @property
    def account(self) -> Path:
        """File with the account of requests, for a control plane that keeps one."""
        return self.run_dir / "log" / "audit.log"

    @property
    def servers(self) -> Mapping[str, int | None]:
        """Process ids of the servers by name; None for one that does not run."""
        return {server.name: server.pid for server in self._servers}

    def _prepare(self) -> None:
        """Make folders, keys, kubeconfigs and the servers, none of which runs yet."""
        if self._given is None:
            self._root, self._alive = rundir.make(keep=self._keep)
        else:
            self._root = self._given.absolute()
        for name in _OURS:
            (self.run_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ports = Ports(*free_ports(5))
        # A kept folder's kubeconfigs are written anew: the ports are others.
        self.url = f"https://{LOOPBACK}:{self.ports.apiserver}"
        self.pki = Pki(self.run_dir / "pki", SERVICE_IP)
        kube = self.run_dir / "kube"
        self._admin = self.pki.ca.client("admin", "admin", ["system:masters"])
        self.kubeconfig = write_kubeconfig(
            kube / "admin.kubeconfig", self.url, self.pki.ca.files.cert, self._admin
        )
        manager = self.client_kubeconfig("system:kube-controller-manager")
        scheduler = self.client_kubeconfig("system:kube-scheduler")
        bin_, ports, pki = self.binaries, self.ports, self.pki
        self._etcd = self._server("etcd", commands.etcd(bin_["etcd"], self.run_dir / "etcd", ports, pki))
        apiserver = commands.apiserver(bin_["kube-apiserver"], ports, pki)
        if self._account:
            policy = kube / "audit-policy.json"
            policy.write_text(audit.POLICY)
            apiserver += audit.flags(policy, self.account)
        self._apiserver = self._server("kube-apiserver", apiserver)
        self._controller_manager = self._server(
            "kube-controller-manager",
            commands.controller_manager(bin_["kube-controller-manager"], manager, ports, pki),
        )
        self._scheduler = self._server(
            "kube-scheduler", commands.scheduler(bin_["kube-scheduler"], scheduler, ports, pki)
        )
        self._servers = [self._etcd, self._apiserver, self._controller_manager, self._scheduler]

    def _server(self, name: str, command: list[str]) -> Server:
        return Server(name, command, self.run_dir / "log" / f"{name}.log")

    async def _ready(self, server: Server, port: int, path: str) -> None:
        await server.ready(https_ok(port, path, self.pki.ca.files.cert, self._admin), DEADLINE)

    def _clean(self) -> None:
        if self._keep or self._root is None:
            return
        for name in _OURS:
            shutil.rmtree(self._root / name, ignore_errors=True)
        if self._given is None:
            shutil.rmtree(self._root, ignore_errors=True)
            if self._alive is not None:
                self._alive.close()
        else:
            with contextlib.suppress(OSError):  # others' files are in it
                self._root.rmdir()
