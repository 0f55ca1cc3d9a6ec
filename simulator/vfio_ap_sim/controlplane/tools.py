"""The programs the control plane consists of, and those that run on it: version, release files, Go package.

Data only. Versions here and in ``go/*/go.mod`` are the same; a test holds them together.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

KUBERNETES = "v1.36.3"
ETCD = "v3.7.3"
HELM = "v3.22.0"
KUBEVIRT = "v1.8.4"
MANIFESTS = f"{KUBEVIRT}-1"
"""Of ``go/kubevirt/manifests``: raise the last number with each change there, or caches keep the old program."""

_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "s390x": "s390x",
    "ppc64le": "ppc64le",
}


@dataclass(frozen=True, slots=True)
class Release:
    """Where a project publishes a program; ``{arch}`` stands for Go's name of the machine."""

    url: str
    """The program itself, or a ``.tar.gz`` that holds it."""
    sums: str
    """The checksum file: either one bare sha256, or lines of ``<sha256>  <file name>``."""
    member: str = ""
    """Path of the program in the archive; empty when ``url`` is the program itself."""


@dataclass(frozen=True, slots=True)
class GoBuild:
    """How the program is built from Go modules."""

    module: str
    """Folder under ``go/`` with the go.mod and go.sum."""
    package: str
    """Go import path of the main package, or its path in the module's own folder (``./x``)."""
    variables: tuple[tuple[str, str], ...] = ()
    """What the linker sets (-X), as (variable, value)."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One program."""

    name: str
    version: str
    release: Release | None
    """None where its project publishes no program, only images."""
    build: GoBuild


def machine() -> str:
    """Return Go's name of this machine's architecture, or the machine's own name where Go's is not known."""
    return _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())


def _kubernetes(name: str) -> Tool:
    url = f"https://dl.k8s.io/release/{KUBERNETES}/bin/linux/{{arch}}/{name}"
    # Without these a server built from modules reports v0.0.0-master+$Format:%H$, which no client can parse.
    variables = (
        ("k8s.io/component-base/version.gitVersion", KUBERNETES),
        ("k8s.io/client-go/pkg/version.gitVersion", KUBERNETES),
    )
    return Tool(
        name,
        KUBERNETES,
        Release(url, f"{url}.sha256"),
        GoBuild("kubernetes", f"k8s.io/kubernetes/cmd/{name}", variables),
    )


def _etcd() -> Tool:
    base = f"https://github.com/etcd-io/etcd/releases/download/{ETCD}"
    folder = f"etcd-{ETCD}-linux-{{arch}}"
    return Tool(
        "etcd",
        ETCD,
        Release(f"{base}/{folder}.tar.gz", f"{base}/SHA256SUMS", f"{folder}/etcd"),
        GoBuild("etcd", "go.etcd.io/etcd/server/v3"),
    )


def _helm() -> Tool:
    url = f"https://get.helm.sh/helm-{HELM}-linux-{{arch}}.tar.gz"
    # As Helm's own Makefile does, from its client library: what `helm template` takes as the Kubernetes version.
    variables = (
        ("helm.sh/helm/v3/internal/version.version", HELM),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", "37"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", "37"),
    )
    return Tool(
        "helm",
        HELM,
        Release(url, f"{url}.sha256sum", "linux-{arch}/helm"),
        GoBuild("helm", "helm.sh/helm/v3/cmd/helm", variables),
    )


def _kubevirt(name: str) -> Tool:
    variables = (("kubevirt.io/client-go/version.gitVersion", KUBEVIRT),)
    return Tool(name, KUBEVIRT, None, GoBuild("kubevirt", f"kubevirt.io/kubevirt/cmd/{name}", variables))


SERVERS: tuple[Tool, ...] = (
    _etcd(),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
)
CLIENTS: tuple[Tool, ...] = (_kubernetes("kubectl"), _helm())
TOOLS: tuple[Tool, ...] = SERVERS + CLIENTS
VIRT_API = _kubevirt("virt-api")
VIRT_CONTROLLER = _kubevirt("virt-controller")
KUBEVIRT_MANIFESTS = Tool("kubevirt-manifests", MANIFESTS, None, GoBuild("kubevirt", "./manifests"))
"""Prints what KubeVirt's operator would install."""
OPTIONAL: tuple[Tool, ...] = (VIRT_API, VIRT_CONTROLLER, KUBEVIRT_MANIFESTS)
"""What the control plane itself does without; whoever needs it gets it."""
