"""The Node object and its Lease, as the kubelet keeps them; which devices there are, the device manager knows.

After pkg/kubelet/kubelet_node_status.go of Kubernetes 1.36: a change waits for the next status period, an
unchanged status is not written, extended resources are set to 0 when the kubelet starts, and those that go are set
to 0, never removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from vfio_ap_kube.client import LEASES, NODES, ApiError, Client
from vfio_ap_sim.kubelet.containers import stamp
from vfio_ap_sim.kubelet.devices import DeviceManager
from vfio_ap_sim.kubelet.settings import Knobs

STRATEGIC: Final = "application/strategic-merge-patch+json"
VERSION: Final = "v1.36.3"

Document = dict[str, Any]

log = logging.getLogger(__name__)

_ANNOTATIONS = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
"""What every kubelet registers its Node with (pkg/kubelet/kubelet_node_status.go)."""


class NodeKeeper:
    """Keeps one Node registered and its status and Lease current."""

    def __init__(
        self, client: Client, name: str, labels: Mapping[str, str], devices: DeviceManager, knobs: Knobs
    ) -> None:
        self._client = client
        self._name = name
        self._labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "s390x",
            **labels,
        }
        self._devices = devices
        self._knobs = knobs
        self._uid = ""
        self._ready_since = stamp()
        self._published: Document = {}
        self._zeroed: dict[str, str] = {}

    async def register(self) -> None:
        """Create the Node, or take over the one there is.

        Raises:
            ApiError: the API server refuses, or cannot be reached.
        """
        document = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._name, "labels": self._labels, "annotations": _ANNOTATIONS},
            "spec": {},
        }
        try:
            node = await self._client.create(NODES, document)
        except ApiError as error:
            if not error.conflict:
                raise
            await self._client.merge(NODES, self._name, {"metadata": {"labels": self._labels}})
            node = await self._client.get(NODES, self._name)
            known = node.get("status", {}).get("capacity", {})
            self._zeroed = {resource: "0" for resource in known if "/" in resource}
        self._uid = node["metadata"]["uid"]
        await self.publish()

    async def publish(self, *, force: bool = False) -> bool:
        """Write the status if it changed, or if ``force``; return whether it was written. Raises ApiError."""
        removed = self._devices.removed
        zeros = {**self._zeroed, **dict.fromkeys(removed, "0")}
        kinds = zip(("capacity", "allocatable"), self._devices.capacity(), strict=True)
        resources = {kind: {**self._knobs.capacity, **_quantities(counts, removed)} for kind, counts in kinds}
        if resources == self._published and not zeros and not force:
            return False
        status = self._about() | {kind: {**zeros, **values} for kind, values in resources.items()}
        patch = {"metadata": {"uid": self._uid}, "status": status}
        await self._client.request("PATCH", NODES.path(self._name, "status"), body=patch, content_type=STRATEGIC)
        self._published = resources
        self._zeroed = {}
        self._devices.acknowledge(removed)
        return True

    async def keep_status(self) -> None:
        """Publish what changed, once in each status period, until cancelled."""
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            await asyncio.sleep(self._knobs.status_period)
            try:
                due = loop.time() - written > self._knobs.report_period
                # As the kubelet: against the Node as the API server has it, for others write it too. After an
                # outage the node lifecycle controller has set every condition to Unknown.
                if await self.publish(force=due or not _ready(await self._client.get(NODES, self._name))):
                    written = loop.time()
            except ApiError as error:
                log.warning("The status of node %s is not written: %s", self._name, error)

    async def keep_lease(self) -> None:
        """Renew the Lease until cancelled."""
        leases = LEASES.within("kube-node-lease")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._uid}
        while True:
            spec = {
                "holderIdentity": self._name,
                "leaseDurationSeconds": self._knobs.lease_duration,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": leases.namespace, "ownerReferences": [owner]},
                "spec": spec,
            }
            try:
                await self._client.apply(leases, lease)
            except ApiError as error:
                log.warning("The Lease of node %s is not renewed: %s", self._name, error)
            await asyncio.sleep(self._knobs.lease_period)

    def _about(self) -> Document:
        now = stamp()
        good = {
            "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            "Ready": ("True", "KubeletReady", "kubelet is posting ready status (played)"),
        }
        return {
            "conditions": [
                {
                    "type": kind,
                    "status": value,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": self._ready_since,
                }
                for kind, (value, reason, message) in good.items()
            ],
            "addresses": [
                {"type": "InternalIP", "address": self._knobs.address},
                {"type": "Hostname", "address": self._name},
            ],
            "nodeInfo": {
                "architecture": "s390x",
                "operatingSystem": "linux",
                "kubeletVersion": VERSION,
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "played://1",
                "kernelVersion": "played",
                "osImage": "played node",
                "machineID": self._name,
                "systemUUID": self._name,
                "bootID": self._ready_since,
            },
        }


def _ready(node: Document) -> bool:
    conditions = node.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _quantities(counts: Mapping[str, int], without: Collection[str]) -> dict[str, str]:
    return {name: str(count) for name, count in counts.items() if name not in without}
