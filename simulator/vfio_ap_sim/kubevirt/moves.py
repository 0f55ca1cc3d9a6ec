"""Migrations as a node's virt-handler drives them: the controller of the source and that of the target.

After pkg/virt-handler/migration-source.go and migration-target.go of v1.8.4. Each ``sync`` gets a VMI that it may
change; whoever calls it writes it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from vfio_ap_sim.kubevirt import movestate
from vfio_ap_sim.kubevirt.api import Document, key
from vfio_ap_sim.kubevirt.launcher import LauncherDiedError, VirtLauncher
from vfio_ap_sim.kubevirt.libvirterror import LibvirtError, SyncError
from vfio_ap_sim.kubevirt.memlock import may_lock_memory


class Say(Protocol):
    """Posts an Event on a VMI."""

    async def __call__(self, vmi: Document, kind: str, reason: str, message: str) -> None:
        """Post it."""


class Peer(Protocol):
    """Another node's virt-handler, as far as migrations need it."""

    def launcher(self, pod: str) -> VirtLauncher | None:
        """Return the launcher of a pod by the pod's name."""

    def poke(self, vmi: tuple[str, str]) -> None:
        """Have it look at a VMI again."""


class SourceController:
    """Moves guests away from this node."""

    def __init__(
        self,
        node: str,
        peer: Callable[[str], Peer | None],
        poke: Callable[[tuple[str, str]], None],
        say: Say,
    ) -> None:
        """Prepare.

        Args:
            node: this node's name.
            peer: another node's virt-handler by the node's name.
            poke: has this node look at a VMI again.
            say: posts Events.
        """
        self._node = node
        self._peer = peer
        self._poke = poke
        self._say = say
        self._moves: dict[str, asyncio.Task[None]] = {}
        """By the uid of the migration."""

    async def sync(self, vmi: Document, launcher: VirtLauncher | None) -> None:
        """Begin, abort or report a migration, whatever the VMI's migrationState asks for."""
        move = movestate.state(vmi)
        running = self._moves.get(move.get("migrationUid", ""))
        if movestate.done(move) or "deletionTimestamp" in vmi["metadata"]:
            if running is not None:
                running.cancel()
        elif not movestate.is_source(vmi, self._node):
            return
        elif running is None:
            if launcher is not None and launcher.alive and not move.get("abortRequested"):
                await self._begin(vmi, move, launcher)
        elif running.done():
            await self._report(vmi, running)
        elif move.get("abortRequested"):
            running.cancel()
        elif not move.get("startTimestamp"):  # what was written at its start has not come through
            movestate.start(vmi)

    async def close(self) -> None:
        """Give up whatever is on its way."""
        for task in self._moves.values():
            task.cancel()
        await asyncio.gather(*self._moves.values(), return_exceptions=True)

    async def _begin(self, vmi: Document, move: Document, launcher: VirtLauncher) -> None:
        """Start the migration once the target has published its ports."""
        peer = self._peer(move.get("targetNode", ""))
        if not move.get("targetDirectMigrationNodePorts") or peer is None:
            return
        target = peer.launcher(move["targetPod"])
        if target is None:
            return
        post_copy = bool(move.get("migrationConfiguration", {}).get("allowPostCopy"))
        work = launcher.migrate(target, raised=may_lock_memory(vmi), post_copy=post_copy)
        task = asyncio.create_task(work)
        name = key(vmi)

        def ended(_: asyncio.Task[None]) -> None:
            self._poke(name)
            peer.poke(name)

        task.add_done_callback(ended)
        self._moves[move["migrationUid"]] = task
        movestate.start(vmi)
        await self._say(vmi, "Normal", "Migrating", "VirtualMachineInstance is migrating.")

    async def _report(self, vmi: Document, running: asyncio.Task[None]) -> None:
        """Say why the migration failed; of a success the target tells."""
        if running.cancelled():
            movestate.fail(vmi, movestate.ABORTED)
        elif error := running.exception():
            if not isinstance(error, LibvirtError):
                raise error
            movestate.fail(vmi, str(error))
        else:
            return
        move = movestate.state(vmi)
        text = (
            f"VirtualMachineInstance migration uid {move['migrationUid']} failed. reason:{move['failureReason']}"
        )
        await self._say(vmi, "Warning", "Migrated", text)


class TargetController:
    """Takes guests in on this node."""

    def __init__(self, node: str, address: str, say: Say) -> None:
        self._node = node
        self._address = address
        self._say = say

    async def sync(self, vmi: Document, launcher: VirtLauncher | None) -> None:
        """Prepare for, acknowledge or clean up after a migration. Raises SyncError: come again."""
        if not movestate.is_target(vmi, self._node):
            return
        move = movestate.state(vmi)
        if movestate.done(move):
            if move.get("failed") and launcher is not None:
                await launcher.exit()
            movestate.forget_target(vmi)
        elif launcher is None:
            return
        elif move.get("startTimestamp") and move.get("endTimestamp"):
            if launcher.alive:
                move["completed"] = True
            else:
                movestate.fail_on_target(vmi)
        elif launcher.alive:
            movestate.receive(vmi, self._node, launcher.arrived)
            await self._say(
                vmi, "Normal", "Migrated", f"The VirtualMachineInstance migrated to node {self._node}."
            )
        elif not move.get("startTimestamp") and not move.get("targetNodeAddress"):
            await self._prepare(vmi, launcher)

    async def _prepare(self, vmi: Document, launcher: VirtLauncher) -> None:
        try:
            await launcher.prepare_target(vmi)
        except SyncError as error:
            raise SyncError(f"syncing migration target failed: {error}") from error
        except LauncherDiedError:
            return  # its pod has failed; virt-controller ends the migration
        await self._say(vmi, "Normal", "PreparingTarget", "VirtualMachineInstance Migration Target Prepared.")
        where = f"Migration Target is listening at {self._address}, on ports: {','.join(movestate.PORTS)}"
        await self._say(vmi, "Normal", "PreparingTarget", where)
        movestate.publish_target(vmi, self._address)
