"""Command lines of the servers: pure functions from paths and ports to arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .pki import FRONT_PROXY_USER, Pki

LOOPBACK = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
"""First of the range: the Service ``kubernetes``."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
"""Issuer and audience of service-account tokens."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of the servers."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int


def etcd(program: Path, data: Path, ports: Ports, pki: Pki) -> list[str]:
    """Return etcd's command line; without fsync, since what it holds is worth nothing after a power cut."""
    client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
    return [
        str(program),
        "--name=vfio-ap",
        f"--data-dir={data}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=vfio-ap={peer}",
        f"--cert-file={pki.etcd.cert}",
        f"--key-file={pki.etcd.key}",
        f"--trusted-ca-file={pki.etcd_ca.files.cert}",
        "--client-cert-auth",
        f"--peer-cert-file={pki.etcd.cert}",
        f"--peer-key-file={pki.etcd.key}",
        f"--peer-trusted-ca-file={pki.etcd_ca.files.cert}",
        "--peer-client-cert-auth",
        "--log-level=warn",
    ]


def apiserver(program: Path, ports: Ports, pki: Pki) -> list[str]:
    """Return kube-apiserver's command line."""
    return [
        str(program),
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={ports.apiserver}",
        # Endpoints may not hold a loopback address.
        "--endpoint-reconciler-type=none",
        f"--etcd-servers=https://{LOOPBACK}:{ports.etcd}",
        f"--etcd-cafile={pki.etcd_ca.files.cert}",
        f"--etcd-certfile={pki.etcd_client.cert}",
        f"--etcd-keyfile={pki.etcd_client.key}",
        f"--tls-cert-file={pki.apiserver.cert}",
        f"--tls-private-key-file={pki.apiserver.key}",
        f"--client-ca-file={pki.ca.files.cert}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki.service_account_public_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        # For extension API servers, which read these from kube-system/extension-apiserver-authentication.
        f"--requestheader-client-ca-file={pki.front_proxy_ca.files.cert}",
        f"--requestheader-allowed-names={FRONT_PROXY_USER}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki.front_proxy.cert}",
        f"--proxy-client-key-file={pki.front_proxy.key}",
    ]


def controller_manager(program: Path, kubeconfig: Path, ports: Ports, pki: Pki) -> list[str]:
    """Return kube-controller-manager's command line; it needs no clouds, routes or node addresses."""
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.controller_manager}",
        f"--tls-cert-file={pki.controller_manager.cert}",
        f"--tls-private-key-file={pki.controller_manager.key}",
        "--leader-elect=false",
        # It makes a service account for each of its controllers; at the default rate that takes five seconds.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--controllers=*,-nodeipam,-route,-cloud-node-lifecycle",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki.service_account_key}",
        f"--root-ca-file={pki.ca.files.cert}",
        f"--cluster-signing-cert-file={pki.ca.files.cert}",
        f"--cluster-signing-key-file={pki.ca.files.key}",
    ]


def scheduler(program: Path, kubeconfig: Path, ports: Ports, pki: Pki) -> list[str]:
    """Return kube-scheduler's command line."""
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.scheduler}",
        f"--tls-cert-file={pki.scheduler.cert}",
        f"--tls-private-key-file={pki.scheduler.key}",
        "--leader-elect=false",
    ]
