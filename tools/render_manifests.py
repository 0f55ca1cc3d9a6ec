"""Write deploy/install.yaml, for ``kubectl apply --server-side -f``, from the chart: ``[--check]``.

It holds what the chart holds with its default values, and the Namespace, which admits the agent's privileged pods.
With ``--check`` nothing is written; the exit code is 1 when the file is out of date.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from vfio_ap_sim.controlplane import default_binaries
from vfio_ap_sim.controlplane.tools import CLIENTS, KUBERNETES

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "vfio-ap-operator"
TARGET = ROOT / "deploy" / "install.yaml"
NAMESPACE = "vfio-ap-system"
PLACE = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
_HEAD = f"""\
# Generated from charts/vfio-ap-operator by `make manifests`; do not edit.
#
#   kubectl apply --server-side -f deploy/install.yaml
#
# Only an installation by helm refuses migrations that can succeed nowhere early: that needs a certificate.
# The images are named without a registry. For others, and for any other setting, render the chart with values:
# helm template vfio-ap charts/vfio-ap-operator --namespace {NAMESPACE} --set image.registry=...
---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    # The agent's pods are privileged: they write the node's /sys
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: privileged
    pod-security.kubernetes.io/warn: privileged
"""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the file; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is out of date")
    options = parser.parse_args(arguments)
    text = render()
    if TARGET.exists() and TARGET.read_text() == text:
        return 0
    if options.check:
        sys.stderr.write(f"{TARGET} is not what the chart says: run `make manifests` and commit the result\n")
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    return 0


def render() -> str:
    """Return the manifests, the same on every machine: the Namespace first, then by kind."""
    parts = [part.strip() for part in re.split(r"^---$", _template(), flags=re.MULTILINE) if part.strip()]
    return _HEAD + "".join(f"---\n{part}\n" for part in sorted(parts, key=_rank))


def _rank(manifest: str) -> int:
    """Return 0 for a kind that others need, 2 for what runs: only once the policies bind it; 1 for the rest."""
    kind = re.search(r"^kind: (\w+)$", manifest, re.MULTILINE)
    assert kind, manifest
    return {"CustomResourceDefinition": 0, "DaemonSet": 2, "Deployment": 2}.get(kind[1], 1)


def _template() -> str:
    (helm,) = (tool for tool in CLIENTS if tool.name == "helm")
    command = [str(default_binaries().get(helm).path), "template", "vfio-ap", str(CHART)]
    with tempfile.TemporaryDirectory() as home:
        # Away from the user's own settings; and what the chart may ask of the cluster is fixed
        own = {f"HELM_{name}_HOME": home for name in ("CACHE", "CONFIG", "DATA")}
        rendered = subprocess.run(
            # No key of a certificate belongs in a file that everybody has, so no webhook
            [*command, *PLACE, "--set", "admission.earlyRefusal=false"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, **own},
        ).stdout
    return rendered.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")


if __name__ == "__main__":
    sys.exit(main())
