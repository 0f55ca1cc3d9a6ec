"""Where the API server is and how to prove who we are: in a pod, or by a kubeconfig.

Tokens are read from their file anew for each request's header when the file changed, because kubelet renews
them. Plug-ins that run programs for a token are not supported: neither component needs them.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(Exception):
    """No usable way to the API server; the message says what was looked for."""


@dataclass(slots=True)
class Credentials:
    """One way to one API server."""

    server: str
    tls: ssl.SSLContext | None
    token: str = ""
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Return the authorization header, with the token as it is now. Raises CredentialsError."""
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text().strip()
            except OSError as error:
                raise CredentialsError(f"cannot read the token: {error}") from None
        return {"Authorization": f"Bearer {token}"} if token else {}


def load(kubeconfig: str | None = None) -> Credentials:
    """Return the credentials: the named kubeconfig, ``$KUBECONFIG``, the pod's own, or ``~/.kube/config``.

    Raises CredentialsError when there are none or they make no sense.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if named:
        return from_kubeconfig(Path(named))
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if host and (_POD / "token").exists():
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        address = f"[{host}]" if ":" in host else host
        tls = ssl.create_default_context(cafile=str(_POD / "ca.crt"))
        return Credentials(f"https://{address}:{port}", tls, token_file=_POD / "token")
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(home)
    raise CredentialsError("not in a pod, KUBECONFIG is not set and ~/.kube/config does not exist")


def from_kubeconfig(path: Path) -> Credentials:
    """Return the credentials of a kubeconfig's current context. Raises CredentialsError."""
    import yaml  # only here: in a pod there is no kubeconfig, and an agent has little memory

    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document, "contexts", document["current-context"])["context"]
        cluster = _named(document, "clusters", context["cluster"])["cluster"]
        user = _named(document, "users", context["user"])["user"]
        server = str(cluster["server"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise CredentialsError(f"{path}: not a usable kubeconfig: {error!r}") from None
    if "exec" in user or "auth-provider" in user:
        raise CredentialsError(
            f"{path}: users with an exec plug-in are not supported; use a token or a certificate"
        )
    tls = _tls(path, cluster, user) if server.startswith("https") else None
    token_file = path.parent / user["tokenFile"] if user.get("tokenFile") else None
    return Credentials(server.rstrip("/"), tls, str(user.get("token", "")), token_file)


def _named(document: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in document[section] if item["name"] == name)
    return found


def _tls(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    try:
        if cluster.get("insecure-skip-tls-verify"):
            raise CredentialsError(f"{path}: insecure-skip-tls-verify is refused: name the certificate authority")
        data = cluster.get("certificate-authority-data")
        file = cluster.get("certificate-authority")
        tls = ssl.create_default_context(
            cafile=str(path.parent / file) if file and not data else None,
            cadata=base64.b64decode(data).decode() if data else None,
        )
        if "client-certificate-data" in user:
            with tempfile.TemporaryDirectory() as folder:  # ssl takes a client certificate from files only
                pair = Path(folder) / "pair.pem"
                pair.touch(mode=0o600)
                pair.write_bytes(
                    base64.b64decode(user["client-certificate-data"])
                    + b"\n"
                    + base64.b64decode(user["client-key-data"])
                )
                tls.load_cert_chain(pair)
        elif "client-certificate" in user:
            tls.load_cert_chain(path.parent / user["client-certificate"], path.parent / user["client-key"])
    except (OSError, ValueError, KeyError) as error:
        raise CredentialsError(f"{path}: certificates cannot be used: {error!r}") from None
    return tls
