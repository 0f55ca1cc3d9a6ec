"""The way to the cluster that the user means: kubeconfigs merged as kubectl does, contexts, exec plug-ins.

``vfio_ap_kube.credentials`` reads one kubeconfig as a component in a cluster has it; people have several, name a
context, and log in by a program. What comes out is the same Credentials.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vfio_ap_cli.exits import NO_CLUSTER, Stop
from vfio_ap_kube.credentials import Credentials, CredentialsError, from_kubeconfig

_FILES = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
}
"""Entries that name files, relative to the kubeconfig that has them."""
_LOGIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Target:
    """One cluster, who the user is there, and the namespace that is meant when none is named."""

    credentials: Credentials
    namespace: str
    context: str


def target(kubeconfig: str, context: str) -> Target:
    """Return where to go. Raises Stop."""
    paths = _paths(kubeconfig)
    merged = _merged(paths)
    name = context or str(merged.get("current-context") or "")
    if not name:
        raise Stop(NO_CLUSTER, f"{paths[0]} has no current context", "name one with --context")
    chosen = _entry(merged, "contexts", name, "context")
    user = _entry(merged, "users", str(chosen.get("user")), "user")
    cluster = _entry(merged, "clusters", str(chosen.get("cluster")), "cluster")
    if "exec" in user:
        user = _logged_in(user["exec"], cluster)
    return Target(_credentials(cluster, user), str(chosen.get("namespace") or "default"), name)


def contexts(kubeconfig: str) -> list[str]:
    """Return the names of the contexts, for completion. Raises Stop."""
    return [str(item.get("name")) for item in _merged(_paths(kubeconfig)).get("contexts") or []]


def _paths(kubeconfig: str) -> list[Path]:
    named = [kubeconfig] if kubeconfig else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    paths = [Path(part) for part in named if part] or [Path.home() / ".kube" / "config"]
    there = [path for path in paths if path.exists()]
    if not there:
        raise Stop(
            NO_CLUSTER, f"there is no kubeconfig at {paths[0]}", "name one with --kubeconfig or $KUBECONFIG"
        )
    return there


def _merged(paths: list[Path]) -> dict[str, Any]:
    """Return all kubeconfigs as one: the first file that names something wins, files are named absolutely."""
    merged: dict[str, Any] = {"clusters": [], "users": [], "contexts": []}
    for path in paths:
        try:
            document = yaml.safe_load(path.read_text()) or {}
            for section in ("clusters", "users", "contexts"):
                known = {item["name"] for item in merged[section]}
                for item in document.get(section) or []:
                    if item["name"] not in known:
                        merged[section].append(_absolute(item, section, path.parent))
            merged["current-context"] = merged.get("current-context") or document.get("current-context") or ""
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise Stop(
                NO_CLUSTER, f"{path} is not a usable kubeconfig: {error}", "see kubectl config view"
            ) from None
    return merged


def _absolute(item: dict[str, Any], section: str, folder: Path) -> dict[str, Any]:
    inner = section.rstrip("s")
    content = dict(item.get(inner) or {})
    for key in _FILES.get(section, ()):
        if content.get(key):
            content[key] = str((folder / str(content[key])).absolute())
    return {**item, inner: content}


def _entry(document: dict[str, Any], section: str, name: str, key: str) -> dict[str, Any]:
    for item in document[section]:
        if item["name"] == name:
            return dict(item.get(key) or {})
    names = ", ".join(sorted(str(item["name"]) for item in document[section])) or "none"
    raise Stop(NO_CLUSTER, f"the kubeconfig has no {key} {name!r}", f"it has: {names}")


def _logged_in(plugin: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the user that an exec plug-in answers with (client.authentication.k8s.io)."""
    command = [str(plugin.get("command")), *(str(part) for part in plugin.get("args") or [])]
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        keys = ("server", "certificate-authority-data", "tls-server-name")
        spec["cluster"] = {key: cluster[key] for key in keys if cluster.get(key)}
    question = {
        "apiVersion": plugin.get("apiVersion") or "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": spec,
    }
    added = {str(item["name"]): str(item["value"]) for item in plugin.get("env") or []}
    environment = {**os.environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(question)}
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=_LOGIN_SECONDS
        )
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        text = f"the log-in program {command[0]} gave no credentials: {error}"
        raise Stop(NO_CLUSTER, text, str(plugin.get("installHint") or "try kubectl get nodes")) from None
    user: dict[str, Any] = {}
    if status.get("token"):
        user["token"] = status["token"]
    for ours, theirs in (
        ("client-certificate-data", "clientCertificateData"),
        ("client-key-data", "clientKeyData"),
    ):
        if status.get(theirs):
            user[ours] = base64.b64encode(status[theirs].encode()).decode()
    return user


def _credentials(cluster: dict[str, Any], user: dict[str, Any]) -> Credentials:
    """Hand one cluster and one user to the common reader, as a kubeconfig of their own that is gone at once."""
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))
        try:
            return from_kubeconfig(path)
        except CredentialsError as error:
            text = str(error).replace(f"{path}: ", "the kubeconfig: ")
            raise Stop(NO_CLUSTER, text) from None
