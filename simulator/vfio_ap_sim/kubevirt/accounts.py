"""KubeVirt's service accounts as identities: a kubeconfig with a token that is kept fresh, and impersonation."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vfio_ap_kube.client import ApiError, Client
from vfio_ap_kube.credentials import Credentials
from vfio_ap_sim.controlplane.pki import write_private
from vfio_ap_sim.kubelet.tokens import read_cluster
from vfio_ap_sim.kubevirt.api import NAMESPACE

LIFETIME: Final = 3600
"""Seconds that a token is asked for."""
RETRY: Final = 5.0

log = logging.getLogger(__name__)


class ServiceAccount:
    """One service account of namespace kubevirt, as a program outside the cluster uses it."""

    def __init__(self, client: Client, name: str, folder: Path) -> None:
        self.kubeconfig = folder / f"{name}.kubeconfig"
        self._client = client
        self._name = name
        self._token = folder / f"{name}.token"

    async def prepare(self, admin: Path) -> None:
        """Get a token and write the kubeconfig for the cluster of the kubeconfig ``admin``. Raises ApiError."""
        await self._renew()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": read_cluster(admin)}],
            "users": [{"name": self._name, "user": {"tokenFile": str(self._token)}}],
            "contexts": [{"name": "it", "context": {"cluster": "cluster", "user": self._name}}],
            "current-context": "it",
        }
        write_private(self.kubeconfig, json.dumps(config).encode())

    async def keep(self) -> None:
        """Renew the token when four fifths of its life are over, until cancelled."""
        while True:
            await asyncio.sleep(0.8 * LIFETIME)
            while True:
                try:
                    await self._renew()
                    break
                except ApiError as error:
                    log.warning("No new token for %s: %s", self._name, error)
                    await asyncio.sleep(RETRY)

    async def _renew(self) -> None:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": LIFETIME},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{self._name}/token"
        answer = await self._client.request("POST", path, body=request)
        fresh = self._token.with_suffix(".new")
        write_private(fresh, answer["status"]["token"].encode())
        fresh.replace(self._token)


@dataclass(slots=True)
class HandlerCredentials(Credentials):
    """An administrator's credentials with which one speaks as virt-handler of ``node``.

    As a token bound to its pod would, the identity names the node: with the feature gate NodeRestriction virt-api
    refuses a VMI's update otherwise (pkg/virt-api/webhooks/validating-webhook/admitters/vmi-update-admitter.go).
    """

    node: str = ""

    def headers(self) -> dict[str, str]:
        """Return the administrator's headers and those of the impersonation."""
        extra = quote("authentication.kubernetes.io/node-name", safe="").lower()
        return Credentials.headers(self) | {
            "Impersonate-User": f"system:serviceaccount:{NAMESPACE}:kubevirt-handler",
            "Impersonate-Group": "system:authenticated",
            f"Impersonate-Extra-{extra}": self.node,
        }


def as_handler(admin: Credentials, node: str) -> HandlerCredentials:
    """Return ``admin`` speaking as virt-handler of ``node``."""
    return HandlerCredentials(admin.server, admin.tls, admin.token, admin.token_file, node)
