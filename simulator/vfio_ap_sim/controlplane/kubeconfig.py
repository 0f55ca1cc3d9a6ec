"""Writes kubeconfig files that need no other file beside them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from .pki import Pair, write_private


def write_kubeconfig(path: Path, url: str, ca: Path, client: Pair) -> Path:
    """Write a kubeconfig for ``url`` with the client's certificate inside and return ``path``.

    JSON is YAML, and every client library reads it.
    """

    def inside(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    name = "vfio-ap"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": inside(ca)}}],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": inside(client.cert), "client-key-data": inside(client.key)},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
    }
    write_private(path, (json.dumps(config, indent=2) + "\n").encode())
    return path
