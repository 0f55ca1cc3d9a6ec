"""A pod's own way to the API server: a token bound to the pod, renewed in time, and a kubeconfig that names it.

A process cannot have a ``/var/run/secrets`` of its own, so it gets KUBECONFIG instead of the usual files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any, Final

import yaml

from vfio_ap_kube.client import ApiError, Client

MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
RETRY: Final = 5.0

Document = dict[str, Any]

log = logging.getLogger(__name__)


def read_cluster(kubeconfig: Path) -> Document:
    """Return the cluster of a kubeconfig's current context, usable from any folder.

    Raises:
        KeyError, StopIteration: the file names none.
    """
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster: Document = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    if "certificate-authority" in cluster:
        cluster["certificate-authority"] = str((kubeconfig.parent / cluster["certificate-authority"]).resolve())
    return cluster


def token_source(pod: Document, container: Document) -> Document | None:
    """Return the ``serviceAccountToken`` projection that the container would see at the usual place, if any."""
    mounted = {m["name"] for m in container.get("volumeMounts", ()) if m["mountPath"] == MOUNT}
    for volume in pod["spec"].get("volumes", ()):
        for source in volume.get("projected", {}).get("sources", ()) if volume["name"] in mounted else ():
            if "serviceAccountToken" in source:
                found: Document = source["serviceAccountToken"]
                return found
    return None


class PodToken:
    """One token of one pod."""

    def __init__(self, client: Client, cluster: Document, pod: Document, source: Document, folder: Path) -> None:
        """Prepare; ``folder`` is the pod's own, ``source`` what ``token_source`` found."""
        self.kubeconfig = folder / "kubeconfig"
        self._client = client
        self._cluster = cluster
        self._pod = pod
        self._source = source
        self._token = folder / "token"
        self._lifetime = 0.0

    async def prepare(self) -> None:
        """Get the first token and write both files.

        Raises:
            ApiError: the API server gives none.
        """
        await self._renew()
        namespace = self._pod["metadata"]["namespace"]
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "pod", "cluster": self._cluster}],
            "users": [{"name": "pod", "user": {"tokenFile": str(self._token)}}],
            "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": namespace}}],
            "current-context": "pod",
        }
        _write_private(self.kubeconfig, json.dumps(config))

    async def keep(self) -> None:
        """Renew when four fifths of the lifetime are over, as the kubelet does, until cancelled."""
        while True:
            await asyncio.sleep(0.8 * self._lifetime)
            while True:
                try:
                    await self._renew()
                    break
                except ApiError as error:
                    log.warning("No new token for %s: %s", self._pod["metadata"]["name"], error)
                    await asyncio.sleep(RETRY)

    async def _renew(self) -> None:
        meta, spec = self._pod["metadata"], self._pod["spec"]
        account = spec.get("serviceAccountName") or "default"
        request: Document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [self._source["audience"]] if self._source.get("audience") else [],
                "expirationSeconds": self._source.get("expirationSeconds", 3600),
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        answer = await self._client.request("POST", path, body=request)
        self._lifetime = float(answer["spec"]["expirationSeconds"])
        _write_private(self._token, answer["status"]["token"])


def _write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)
