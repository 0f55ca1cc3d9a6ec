"""KubeVirt's own virt-api and virt-controller with the chart beside them; no nodes, so that nothing starts."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_sim.cluster import SimCluster
from vfio_ap_sim.cluster.simcluster import SYSTEM, matrix
from vfio_ap_sim.controlplane import BinaryUnavailableError, CommandFailedError
from vfio_ap_sim.kubevirt import KubeVirt

from ..support import KUBEVIRT, User, bearer, namespace, until
from .objects import CARDS, GATE, PAYMENTS, UUID, launcher, vmi

CHART = Path(__file__).parents[3] / "charts" / "vfio-ap-operator"
OPERATOR = f"system:serviceaccount:{SYSTEM}:vfio-ap-operator"
PENDING = {f"{part}.nodeSelector.test\\.ap\\.s390x\\.io/nowhere": "x" for part in ("operator", "agent")}


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster() -> AsyncIterator[SimCluster]:
    """A control plane with KubeVirt and the chart; its pods stay pending."""
    found = SimCluster(CHART)
    kubevirt: KubeVirt | None = None
    try:
        await found.__aenter__()
        kubevirt = KubeVirt(found.plane)
        await kubevirt.start()
        await found.install(**PENDING)
        yield found
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    finally:
        if kubevirt is not None:
            await kubevirt.stop()
        await found.__aexit__()


@pytest.fixture(scope="package")
def user(cluster: SimCluster) -> Callable[..., User]:
    """Return the user with a name and groups, by a client certificate."""
    return lambda name, *groups: User(cluster.plane, cluster.plane.client_kubeconfig(name, groups))


@pytest.fixture(scope="package")
def admin(cluster: SimCluster) -> User:
    """The cluster's administrator."""
    return User(cluster.plane, cluster.plane.kubeconfig)


@pytest.fixture(scope="package")
def operator(user: Callable[..., User]) -> User:
    """The operator, with the rights that the chart gives it."""
    return user(OPERATOR, "system:serviceaccounts")


@pytest.fixture(scope="package")
def kubevirt(user: Callable[..., User]) -> User:
    """KubeVirt's controller, with the rights that KubeVirt gives it."""
    return user(KUBEVIRT, "system:serviceaccounts", "system:authenticated")


@pytest.fixture(scope="package", autouse=True)
def spaces(admin: User, operator: User, kubevirt: User) -> None:
    """The namespaces bank, which may use payments and cards, and shop, which may not; the policies bind."""
    for name in ("bank", "shop"):
        admin.create(namespace(name))
        admin.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
        admin.kubectl("create", "rolebinding", "ed", "--clusterrole=edit", "--user=ed", "-n", name)
    # Where the operator itself runs, it takes away labels that no matrix asks for
    for name, uuid, adapter in (("payments", PAYMENTS, 5), ("cards", CARDS, 6)):
        admin.create(matrix(name, uuid=uuid, adapters=[adapter], domains=[4], allowedNamespaces=["bank"]))
        operator.kubectl("label", "namespace", "bank", f"use.ap.s390x.io/{name}={uuid}")
    until(lambda: made(admin, vmi(), UUID) and made(kubevirt, launcher(), GATE), "admission in force")


@pytest.fixture(scope="package")
def editor(user: Callable[..., User], spaces: None) -> User:
    """Somebody who may edit what is in the namespaces, VMs among it."""
    return user("ed", "system:authenticated")


@pytest.fixture(scope="package")
def account(cluster: SimCluster, admin: User, spaces: None) -> User:
    """A service account of the namespace bank with an editor's rights, by its own token."""
    subject = "--serviceaccount=bank:default"
    admin.kubectl("create", "rolebinding", "account", "--clusterrole=edit", subject, "-n", "bank")
    return bearer(cluster.plane, "account", admin.kubectl("create", "token", "default", "-n", "bank"))


def made(who: User, document: dict, added: str) -> bool:
    """Tell whether somebody may create a document, and it gets something with this text."""
    try:
        return added in who.create(document, "--dry-run=server", "-o", "json")
    except CommandFailedError:
        return False
