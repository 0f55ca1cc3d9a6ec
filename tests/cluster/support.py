"""The chart, users of the API server, documents to try, and waiting for what it announces by no event."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vfio_ap_sim.controlplane import CommandFailedError, ControlPlane

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "vfio-ap-operator"
KUBEVIRT = "system:serviceaccount:kubevirt:kubevirt-controller"


class User:
    """Somebody with a kubeconfig."""

    def __init__(self, plane: ControlPlane, kubeconfig: Path) -> None:
        self._plane = plane
        self._kubeconfig = kubeconfig

    def kubectl(self, *args: str, document: dict[str, Any] | str = "") -> str:
        """Run kubectl as this user; ``document`` goes to its standard input. Raises CommandFailedError."""
        stdin = document if isinstance(document, str) else json.dumps(document)
        return self._plane.kubectl_sync(f"--kubeconfig={self._kubeconfig}", *args, stdin=stdin)

    def create(self, document: dict[str, Any] | str, *args: str) -> str:
        return self.kubectl("create", "-f", "-", *args, document=document)

    def apply_status(self, document: dict[str, Any], **status: Any) -> str:
        """Write a status as the components do: one server-side apply, which reads nothing first."""
        return self.kubectl(
            "apply", "--server-side", "--subresource=status", "-f", "-", document={**document, "status": status}
        )

    def get(self, *args: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def refusal(self, *args: str, document: dict[str, Any] | str = "") -> str:
        """Run kubectl, which must fail, and return what it said."""
        with pytest.raises(CommandFailedError) as caught:
            self.kubectl(*args, document=document)
        return caught.value.refusal.message

    def refused(self, document: dict[str, Any]) -> str:
        """Create ``document``, which must fail, and return what the API server said."""
        try:
            self.create(document)
        except CommandFailedError as error:
            return error.refusal.message
        # The administrator takes it away again, so that the next test is judged by itself
        self._plane.kubectl_sync("delete", "--wait=false", "-f", "-", stdin=json.dumps(document))
        pytest.fail("it was created")


def bearer(plane: ControlPlane, name: str, token: str) -> User:
    """Return whoever ``token`` belongs to; ``name`` is for the file."""
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.strip()}
    path = plane.run_dir / "kube" / f"{name}.kubeconfig"
    path.write_text(json.dumps(config))
    return User(plane, path)


def until(holds: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Return what ``holds`` returns as soon as it is true; for what no event tells."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not after {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def apnode(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "ap.s390x.io/v1alpha1", "kind": "APNode", "metadata": {"name": name}, "spec": spec}


def pod(name: str, space: str, **spec: Any) -> dict[str, Any]:
    spec.setdefault("containers", [container()])
    metadata = {"name": name, "namespace": space}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def container(name: str = "c", **resources: dict[str, str]) -> dict[str, Any]:
    """Return a container; ``resources`` are ``limits`` and ``requests``."""
    return {"name": name, "image": "example.invalid/none", "resources": resources}
