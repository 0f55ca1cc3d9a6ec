"""A played virt-launcher: one pod's guest, from its domain XML to its end, on the node's modelled kernel.

It answers virt-handler's commands (SyncVMI, SyncMigrationTarget, MigrateVirtualMachine) as virt-launcher does with
libvirt and QEMU behind it. It does not know the API server.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vfio_ap_sim.kernel import Control, SysfsError, finished
from vfio_ap_sim.kernel.migration import migrate
from vfio_ap_sim.kernel.profile import Tokens
from vfio_ap_sim.kubelet import PlayedKubelet
from vfio_ap_sim.kubelet.devices import Allocation
from vfio_ap_sim.kubevirt import domain as domains
from vfio_ap_sim.kubevirt import qemu
from vfio_ap_sim.kubevirt.api import COMPUTE, HOOK_SIDECARS, Document
from vfio_ap_sim.kubevirt.hooks import HookError, HookManager
from vfio_ap_sim.kubevirt.knobs import Knobs
from vfio_ap_sim.kubevirt.libvirterror import LibvirtError, command_failed, qemu_died
from vfio_ap_sim.kubevirt.quantity import bytes_of
from vfio_ap_sim.kubevirt.vmistatus import now

_GROUP = re.compile(r"/dev/vfio/([0-9]+)")


class Node(Protocol):
    """What a launcher needs of its node; a ``SimNode`` is one."""

    @property
    def name(self) -> str:
        """The Node's name."""

    @property
    def control(self) -> Control:
        """The hands at the node's modelled kernel."""

    @property
    def kubelet(self) -> PlayedKubelet:
        """The node's kubelet, which runs the pod."""


class LauncherDiedError(Exception):
    """virt-launcher ended before it could take commands; its pod has failed."""


class VirtLauncher:
    """The guest of one launcher pod."""

    def __init__(self, node: Node, pod: Document, knobs: Knobs) -> None:
        metadata = pod["metadata"]
        self.pod: str = metadata["name"]
        self.uid: str = metadata["uid"]
        self.xml = ""
        """The running guest's domain XML."""
        self.arrived = ""
        """When the guest came here by migration."""
        self.left = False
        """Whether the guest was here and went elsewhere."""
        self.ended = False
        """Whether this virt-launcher has ended."""
        self._namespace: str = metadata["namespace"]
        self._request = bytes_of(_compute(pod)["resources"].get("requests", {}).get("memory", 0))
        self._node = node
        self._knobs = knobs
        self._hooks: HookManager | None = None
        self._guest = ""

    @property
    def alive(self) -> bool:
        """Whether the guest runs here."""
        return bool(self._guest)

    @property
    def sees_adapters(self) -> bool:
        """Whether the guest's own AP bus would show its queues."""
        return self.alive and qemu.sees_adapters(domains.parse(self.xml))

    async def sync(self, vmi: Document, *, raised: bool) -> None:
        """Define and start the guest (SyncVMI). ``raised``: virt-handler has raised what may be locked.

        Raises SyncError, and LauncherDiedError where a hook sidecar did not come up.
        """
        hooks = await self._collected(vmi)
        try:
            xml = domains.domain_xml(vmi, domains.pooled_mdevs(vmi, self._envs()))
            xml = await hooks.on_define_domain(xml, vmi)
            found = domains.parse(xml)
            qemu.validate(found)
            await self._start(found, self._room(raised))
        except LibvirtError as error:
            raise command_failed("SyncVMI", error.to_handler) from error
        except (HookError, LookupError) as error:
            raise command_failed("SyncVMI", str(error)) from error
        self.xml = xml

    async def prepare_target(self, vmi: Document) -> None:
        """Make ready for a guest from elsewhere (SyncMigrationTarget).

        The sidecars are called as for a start, but the XML that they return is dropped: the source's counts
        (live-migration-target.go:216). Raises SyncError and LauncherDiedError.
        """
        hooks = await self._collected(vmi)
        try:
            await hooks.on_define_domain(domains.domain_xml(vmi, domains.pooled_mdevs(vmi, self._envs())), vmi)
        except HookError as error:
            raise command_failed(
                "SyncMigrationTarget", f"executing custom preStart hooks failed: {error}"
            ) from error
        except LookupError as error:
            raise command_failed("SyncMigrationTarget", str(error)) from error

    async def migrate(self, target: VirtLauncher, *, raised: bool, post_copy: bool) -> None:
        """Move the guest to ``target``, which may be cancelled until its memory is there. Raises LibvirtError.

        ``raised``: the VMI is one for which virt-handler raises what may be locked.
        """
        found = domains.parse(self.xml)
        kernel = self._node.control.kernel
        known = kernel.mdevs.by_uuid if kernel.mdevs else {}
        qemu.departs(
            found,
            kernel_migrates=kernel.profile.tokens is Tokens.MIGRATABLE,
            migratable=not kernel.profile.migratable_file or all(known[m.uuid].migratable for m in found.mdevs),
            post_copy=post_copy,
        )
        qemu.admit(found, target._room(raised and target._knobs.raise_memlock_on_target))
        started = now()
        await asyncio.sleep(self._knobs.copy_time)
        if found.mdevs:
            self._move_device(found, target)
        else:
            await finished(target._node.control.start_guest(found.name))
            await finished(self._node.control.stop_guest(found.name))
        target.xml, target._guest, target.arrived = self.xml, self._guest, started
        self._guest, self.left = "", True

    async def stop(self) -> None:
        """End the guest; its queues are reset before this returns."""
        if self._guest:
            await finished(self._node.control.stop_guest(self._guest))
            self._guest = ""

    async def exit(self, code: int = 0) -> None:
        """End, the guest being gone: tell the sidecars, then end the pod's played containers. Idempotent."""
        if self.ended:
            return
        self.ended = True
        if self._hooks is not None:
            try:
                await self._hooks.shutdown()
            except HookError:
                code = code or 1
        with suppress(KeyError):  # the pod may have gone first
            self._node.kubelet.exit(self._namespace, self.pod, code)

    async def _collected(self, vmi: Document) -> HookManager:
        """Return the sidecars, which virt-launcher awaits before anything else (cmd/virt-launcher)."""
        if self._hooks is None:
            wanted = json.loads(vmi["metadata"].get("annotations", {}).get(HOOK_SIDECARS, "[]"))
            hooks = HookManager(self._volumes() / "hook-sidecar-sockets")
            try:
                await hooks.collect(len(wanted), self._knobs.hook_limit)
            except HookError as error:
                await self.exit(2)
                raise LauncherDiedError(str(error)) from error
            self._hooks = hooks
        return self._hooks

    async def _start(self, found: domains.Domain, room: qemu.Room) -> None:
        qemu.admit(found, room)
        uuid = found.mdevs[0].uuid if found.mdevs else None
        try:
            await finished(self._node.control.start_guest(found.name, uuid))
        except SysfsError as error:
            said = os.strerror(error.errno)
            if error.errno == errno.EBUSY:
                said = f"failed to open /dev/vfio/{room.mdevs[uuid or '']}: {said}"
            raise qemu_died(found.name, f"-device vfio-ap: vfio {uuid}: {said}") from error
        self._guest = found.name

    def _move_device(self, found: domains.Domain, target: VirtLauncher) -> None:
        """Have the modelled kernels move the device, and with it the guest. Raises LibvirtError."""
        here, there = self._node.control, target._node.control
        outcome = migrate(here, there, found.mdevs[0].uuid, wire=self._knobs.wire)
        if outcome.errno is not None:
            raise qemu_died(found.name, f"load of migration failed: {os.strerror(outcome.errno)}")

    def _room(self, raised: bool) -> qemu.Room:
        mdevs = self._node.control.kernel.mdevs
        paths = [path for held in self._held() for path in held.host_paths]
        return qemu.Room(
            {mdev.uuid: mdev.group for mdev in mdevs.by_uuid.values() if not mdev.leaving} if mdevs else {},
            {int(match[1]) for path in paths if (match := _GROUP.fullmatch(path))},
            # Overhead and guest memory (kvm/runtime.go:CalculateMemlockSize): what the pod requests.
            self._request if raised else self._knobs.memlock,
        )

    def _envs(self) -> Mapping[str, str]:
        return {name: value for held in self._held() for name, value in held.envs.items()}

    def _held(self) -> tuple[Allocation, ...]:
        return self._node.kubelet.held(self._namespace, self.pod, COMPUTE)

    def _volumes(self) -> Path:
        return self._node.kubelet.volumes(self._namespace, self.pod)


def _compute(pod: Document) -> Document:
    container: Document = next(c for c in pod["spec"]["containers"] if c["name"] == COMPUTE)
    return container
