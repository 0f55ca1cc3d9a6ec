"""A VMI's migrationState as virt-handler reads and writes it, on either side. Functions that change what they get.

After pkg/virt-handler/migration-source.go and migration-target.go of v1.8.4.
"""

from __future__ import annotations

from vfio_ap_sim.kubevirt.api import NODE_NAME, TARGET_NODE_NAME, Document
from vfio_ap_sim.kubevirt.vmistatus import now

PORTS = {"49152": 0, "49153": 49153}
"""Ports that a target offers for the guest's memory (migration-proxy); nothing listens, the guest is a model's."""
ABORTED = "Live migration aborted "
"""virt-launcher's failure reason, with its blank (live-migration-source.go:672)."""


def state(vmi: Document) -> Document:
    """Return the migration's state, an empty one when there is none."""
    found: Document = vmi.get("status", {}).get("migrationState") or {}
    return found


def in_progress(move: Document) -> bool:
    """Tell whether the guest is being moved now."""
    return bool(move.get("startTimestamp")) and not move.get("endTimestamp")


def done(move: Document) -> bool:
    """Tell whether it is over (isMigrationDone)."""
    return not move or (bool(move.get("endTimestamp")) and bool(move.get("completed") or move.get("failed")))


def is_source(vmi: Document, node: str) -> bool:
    """Tell whether ``node`` has the guest that is to move."""
    return bool(vmi.get("status", {}).get("nodeName") == node == state(vmi).get("sourceNode"))


def is_target(vmi: Document, node: str) -> bool:
    """Tell whether ``node`` is where the guest is to go."""
    return bool(state(vmi)) and vmi["metadata"].get("labels", {}).get(TARGET_NODE_NAME) == node


def publish_target(vmi: Document, address: str) -> None:
    """Say where the prepared target listens; virt-controller and the source wait for it."""
    move = state(vmi)
    move["targetNodeAddress"] = address
    move["targetDirectMigrationNodePorts"] = PORTS
    if target := move.get("targetState"):
        target["nodeAddress"] = address
        target["directMigrationNodePorts"] = PORTS


def start(vmi: Document) -> None:
    """Say that the source has begun."""
    move = state(vmi)
    move["startTimestamp"] = now()
    move["mode"] = "PreCopy"


def fail(vmi: Document, reason: str) -> None:
    """Say that the source gave up, and why (setMigrationProgressStatus)."""
    move = state(vmi)
    move["failed"] = True
    move["failureReason"] = reason
    move["endTimestamp"] = now()
    if reason == ABORTED:
        move["abortStatus"] = "Succeeded"


def fail_on_target(vmi: Document) -> None:
    """Say that the move ended without a guest on the target."""
    move = state(vmi)
    move["failed"] = move["completed"] = True
    move.setdefault("endTimestamp", now())


def receive(vmi: Document, node: str, started: str) -> None:
    """Say that the guest runs on the target now, which owns the VMI from here on (ackMigrationCompletion)."""
    move, status, metadata = state(vmi), vmi["status"], vmi["metadata"]
    ready = now()
    move["targetNodeDomainDetected"] = True
    move["targetNodeDomainReadyTimestamp"] = ready
    if target := move.get("targetState"):
        target["domainDetected"] = True
        target["domainReadyTimestamp"] = ready
    move.setdefault("startTimestamp", started)
    move["endTimestamp"] = ready
    metadata["labels"][NODE_NAME] = node
    metadata["labels"].pop("kubevirt.io/outdatedLauncherImage", None)
    metadata.get("annotations", {}).pop("kubevirt.io/eviction-source", None)
    status["nodeName"] = node
    status.pop("launcherContainerImageVersion", None)
    status.pop("evacuationNodeName", None)
    status["migrationTransport"] = "Unix"


def forget_target(vmi: Document) -> None:
    """Take the VMI off the target's list (finalCleanup)."""
    vmi["metadata"]["labels"].pop(TARGET_NODE_NAME, None)
