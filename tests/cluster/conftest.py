"""One real control plane for all cluster tests of a run, with the chart in it for those that ask."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.controlplane import BinaryUnavailableError, CommandFailedError, ControlPlane

from .support import CHART, User, apnode, container, namespace, pod, until


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane() -> AsyncIterator[ControlPlane]:
    """A running control plane, shared: use a namespace of your own. Its methods work in any test's loop.

    Where its binaries cannot be had the tests are skipped, except in CI, where that is a failure.
    """
    plane = ControlPlane()
    try:
        await plane.start()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        yield plane
    finally:
        await plane.stop()


@pytest.fixture(scope="session")
def helm(control_plane: ControlPlane) -> Callable[..., str]:
    """Run helm on the control plane, away from the user's own settings, and return its standard output.

    With ``fails=True`` it must fail; then return what it says.
    """
    homes = {
        f"HELM_{name}_HOME": str(control_plane.run_dir / "kube" / "helm") for name in ("CACHE", "CONFIG", "DATA")
    }
    environ = {**os.environ, **homes, "KUBECONFIG": str(control_plane.kubeconfig)}

    def run(*args: str | Path, fails: bool = False) -> str:
        command = [control_plane.binaries["helm"], *args]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="session")
def user(control_plane: ControlPlane) -> Callable[..., User]:
    """Return the user with a name and groups, by a client certificate."""
    return lambda name, *groups: User(control_plane, control_plane.client_kubeconfig(name, groups))


@pytest.fixture(scope="session")
def admin(control_plane: ControlPlane) -> User:
    """The cluster's administrator."""
    return User(control_plane, control_plane.kubeconfig)


@pytest.fixture(scope="session")
def chart(control_plane: ControlPlane, helm: Callable[..., str], admin: User) -> str:
    """Namespace of the installed chart: CRDs established, policies in force.

    Its pods stay pending whatever nodes other tests make: no node has the label that they ask for.
    """
    space = "vfio-ap-system"
    pending = [
        f"--set-string={part}.nodeSelector.test\\.ap\\.s390x\\.io/nowhere=true" for part in ("operator", "agent")
    ]
    helm("upgrade", "--install", "vfio-ap", CHART, "--namespace", space, "--create-namespace", *pending)
    crds = ("apmatrices.ap.s390x.io", "apnodes.ap.s390x.io")
    admin.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", *crds)
    agent = f"system:serviceaccount:{space}:vfio-ap-agent"
    mdev = {"uuid": "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11", "matrix": "m", "adapters": "5", "domains": "4"}
    asking = pod("probe", "default", containers=[container(limits={"ap.s390x.io/probe": "1"})])
    for policy, document, *flags in (
        ("vfio-ap-pods", asking),
        ("vfio-ap-namespaces", namespace("probe", **{"use.ap.s390x.io/probe": "allowed"})),
        ("vfio-ap-apnodes", apnode("probe", mdevs=[mdev])),
        ("vfio-ap-agents", apnode("probe"), f"--as={agent}"),
    ):
        until(lambda: _denied(admin, policy, document, *flags), f"{policy} in force")  # noqa: B023 - called at once
    return space


def _denied(admin: User, policy: str, document: dict, *flags: str) -> bool:
    try:
        admin.create(document, "--dry-run=server", *flags)
    except CommandFailedError as error:
        return f"ValidatingAdmissionPolicy '{policy}'" in error.refusal.message
    return False
