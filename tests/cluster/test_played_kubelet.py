"""The played kubelet against a real API server, scheduler and controller manager."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vfio_ap.errors import Refusal
from vfio_ap_agent.plugin import Grant, PluginSet
from vfio_ap_kube.client import NODES, PODS, ApiError, Client, Resource
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.watch import follow
from vfio_ap_sim.controlplane import ControlPlane
from vfio_ap_sim.kubelet import Knobs, PlayedKubelet

pytestmark = pytest.mark.cluster

Document = dict[str, Any]

# Not our own domain: another test of the run may have installed the policies that guard it.
GRANT = Grant("played.example.com/payments", "11111111-2222-3333-4444-555555555555", "7", True)
LEDGER = Grant("played.example.com/ledger", "99999999-2222-3333-4444-555555555555", "8", True)
KNOBS = Knobs(status_period=0.1, first_backoff=0.1)
PROGRAM = """
import json, os, signal, sys
print(json.dumps({"pid": os.getpid(), "args": sys.argv[1:], "env": dict(os.environ)}), flush=True)
open("up", "w").close()
signal.pause()
"""
READY = {"exec": {"command": ["test", "-e", "up"]}, "periodSeconds": 1, "timeoutSeconds": 10}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pk", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with Client(from_kubeconfig(control_plane.kubeconfig), manager="test") as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    namespaces = Resource("v1", "namespaces")
    made = await client.create(
        namespaces, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "played-"}}
    )
    name = made["metadata"]["name"]
    account = Resource("v1", "serviceaccounts", name)
    await until(client, account, "default", lambda found: found is not None)
    yield name
    await client.delete(namespaces, name)


@pytest.fixture
async def node(control_plane: ControlPlane, client: Client, folder: Path) -> AsyncIterator[PlayedKubelet]:
    name = folder.name.lower().replace("_", "-").strip("-")
    played = PlayedKubelet(
        name,
        control_plane.client_kubeconfig(f"system:node:{name}", ["system:nodes"]),
        folder,
        labels={"ap.s390x.io/machine": "cec-1"},
        image_map={"quay.io/ap/agent": [sys.executable, "-c", PROGRAM]},
        extra_env={"AP_DIR": "/somewhere", "VOLUMES": "{pod}/volumes"},
        knobs=KNOBS,
    )
    async with played:
        yield played
    await client.delete(NODES, name)


async def until(
    client: Client, resource: Resource, name: str, condition: Callable[[Document | None], bool]
) -> Document | None:
    """Follow one object until the condition holds; None stands for an object that is not there."""
    there: Document | None = None
    async with asyncio.timeout(30):
        async for change in follow(client, resource, fieldSelector=f"metadata.name={name}"):
            if not change.synced:
                there = None if change.deleted else change.object
            if condition(there):
                return there
    raise AssertionError


def condition(kind: str, status: str = "True") -> Callable[[Document | None], bool]:
    def holds(found: Document | None) -> bool:
        rows = (found or {}).get("status", {}).get("conditions", ())
        return any(row["type"] == kind and row["status"] == status for row in rows)

    return holds


def pod(
    node: PlayedKubelet, name: str = "agent", image: str = "quay.io/ap/agent:v1", **container: Any
) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": image, **container}],
        },
    }


def allocatable(resource: str, count: str | None) -> Callable[[Document | None], bool]:
    return lambda found: bool(found) and found["status"].get("allocatable", {}).get(resource) == count


async def agree(grant: Grant) -> Grant:
    return grant


@asynccontextmanager
async def plugin(node: PlayedKubelet, check=agree, grant: Grant = GRANT) -> AsyncIterator[PluginSet]:
    plugins = PluginSet(node.device_plugins, check)
    task = asyncio.create_task(plugins.run())
    try:
        await plugins.set([grant])
        yield plugins
    finally:
        await plugins.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_node_is_ready_and_alive(node: PlayedKubelet, client: Client):
    found = await until(client, NODES, node.name, condition("Ready"))
    labels = found["metadata"]["labels"]
    assert labels["kubernetes.io/arch"] == "s390x"
    assert labels["kubernetes.io/hostname"] == node.name
    assert labels["ap.s390x.io/machine"] == "cec-1"
    leases = Resource("coordination.k8s.io/v1", "leases", "kube-node-lease")
    lease = await until(client, leases, node.name, lambda found: found is not None)
    assert lease["spec"]["holderIdentity"] == node.name
    # The node lifecycle controller believes it.
    await until(client, NODES, node.name, lambda found: bool(found) and not found["spec"].get("taints"))


async def test_a_granted_matrix_comes_goes_and_comes_back_with_the_kubelet(node: PlayedKubelet, client: Client):
    async with plugin(node) as plugins:
        await until(client, NODES, node.name, allocatable(GRANT.resource, "1"))
        await plugins.set([])
        await until(client, NODES, node.name, allocatable(GRANT.resource, "0"))
        await plugins.set([GRANT])
        await until(client, NODES, node.name, allocatable(GRANT.resource, "1"))
        await node.restart()
        await until(client, NODES, node.name, allocatable(GRANT.resource, "1"))


async def test_a_resource_that_is_gone_leaves_a_zero_and_what_is_removed_by_hand_stays_away(
    control_plane: ControlPlane, client: Client, folder: Path
):
    name = f"{folder.name.lower().replace('_', '-')}x"
    config = control_plane.client_kubeconfig(f"system:node:{name}", ["system:nodes"])
    async with PlayedKubelet(name, config, folder, knobs=Knobs(status_period=0.05, plugin_grace=0.0)) as node:
        async with plugin(node):
            await until(client, NODES, name, allocatable(GRANT.resource, "1"))
        await until(client, NODES, name, allocatable(GRANT.resource, "0"))
        gone = {"capacity": {GRANT.resource: None}, "allocatable": {GRANT.resource: None}}
        await client.merge(NODES, name, {"status": gone}, subresource="status")
        # Another change makes the kubelet write its status once more.
        async with plugin(node, grant=LEDGER):
            found = await until(client, NODES, name, allocatable(LEDGER.resource, "1"))
        assert GRANT.resource not in found["status"]["capacity"]
    await client.delete(NODES, name)


async def test_a_pod_runs_with_a_token_of_its_own(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    env = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "GREETING", "value": "hello $(NODE)"},
    ]
    await client.create(pods, pod(node, args=["run", "--name=$(NODE)"], env=env, readinessProbe=READY))
    await until(client, pods, "agent", condition("Ready"))
    said = json.loads(node.log(namespace, "agent", "main").read_text())
    assert said["args"] == ["run", f"--name={node.name}"]
    assert said["env"]["GREETING"] == f"hello {node.name}"
    assert said["env"]["AP_DIR"] == "/somewhere"
    assert Path(said["env"]["VOLUMES"]).is_dir()

    kubeconfig = Path(said["env"]["KUBECONFIG"])
    token = Path(json.loads(kubeconfig.read_text())["users"][0]["user"]["tokenFile"]).read_text()
    reviews = Resource("authentication.k8s.io/v1", "tokenreviews")
    review = {"apiVersion": reviews.api_version, "kind": "TokenReview", "spec": {"token": token}}
    user = (await client.create(reviews, review))["status"]["user"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/node-name"] == [node.name]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["agent"]
    async with Client(from_kubeconfig(kubeconfig), manager="pod") as own:
        with pytest.raises(ApiError, match=f"system:serviceaccount:{namespace}:default"):
            await own.listing(Resource("v1", "secrets", namespace))


async def test_a_killed_container_is_started_again(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    await client.create(pods, pod(node, readinessProbe=READY))
    await until(client, pods, "agent", condition("Ready"))
    first = json.loads(node.log(namespace, "agent", "main").read_text())["pid"]
    os.kill(first, signal.SIGKILL)

    def again(found: Document | None) -> bool:
        (container,) = found["status"]["containerStatuses"]
        return container["restartCount"] == 1 and container["ready"] and "running" in container["state"]

    found = await until(client, pods, "agent", again)
    (container,) = found["status"]["containerStatuses"]
    assert container["lastState"]["terminated"]["exitCode"] == 137


async def test_a_deleted_pod_ends_and_is_gone(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    await client.create(pods, pod(node, readinessProbe=READY))
    await until(client, pods, "agent", condition("Ready"))
    log = node.log(namespace, "agent", "main")
    process = os.pidfd_open(json.loads(log.read_text())["pid"])
    await client.delete(pods, "agent")
    await until(client, pods, "agent", lambda found: found is None)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(process, ended.set)
    async with asyncio.timeout(10):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(process)
    os.close(process)


async def test_a_pod_gets_the_device_and_keeps_it_from_others(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    limits = {"limits": {GRANT.resource: "1"}}
    async with plugin(node):
        await client.create(pods, pod(node, "vm", image="kubevirt/virt-launcher:v1", resources=limits))
        await until(client, pods, "vm", condition("Ready"))
        (held,) = node.held(namespace, "vm", "main")
        assert held.envs == {"MDEV_PCI_RESOURCE_PLAYED_EXAMPLE_COM_PAYMENTS": GRANT.uuid}

        await client.create(pods, pod(node, "second", image="kubevirt/virt-launcher:v1", resources=limits))
        await until(client, pods, "second", condition("PodScheduled", "False"))
        # Past the scheduler, as by hand: the kubelet refuses it.
        third = pod(node, "third", image="kubevirt/virt-launcher:v1", resources=limits)
        await client.create(pods, {**third, "spec": {**third["spec"], "nodeName": node.name}})
        found = await until(client, pods, "third", lambda p: bool(p) and p["status"]["phase"] == "Failed")
        assert found["status"]["reason"] == "UnexpectedAdmissionError"
        assert found["status"]["message"] == (
            "Pod was rejected: Allocate failed due to requested number of devices unavailable for "
            f"{GRANT.resource}. Requested: 1, Available: 0, which is unexpected"
        )

        await client.delete(pods, "vm")
        await until(client, pods, "second", condition("Ready"))


async def test_a_matrix_that_is_no_longer_whole_fails_the_pod(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    refusal = Refusal("QueueMissing", "05.00ab", "the queue is gone", "bring the adapter back")

    async def check(_: Grant) -> Refusal:
        return refusal

    async with plugin(node, check):
        await until(client, NODES, node.name, allocatable(GRANT.resource, "1"))
        await client.create(pods, pod(node, "vm", image="x", resources={"limits": {GRANT.resource: "1"}}))
        found = await until(client, pods, "vm", lambda p: bool(p) and p["status"]["phase"] == "Failed")
        assert found["status"]["reason"] == "UnexpectedAdmissionError"
        assert str(refusal) in found["status"]["message"]
        events = Resource("v1", "events", namespace)
        said = lambda e: bool(e) and e["reason"] == "UnexpectedAdmissionError"  # noqa: E731
        async with asyncio.timeout(30):
            async for change in follow(client, events, fieldSelector="involvedObject.name=vm"):
                if not change.synced and said(change.object):
                    break
        await until(client, NODES, node.name, allocatable(GRANT.resource, "0"))


async def test_a_played_pod_can_be_told_to_end(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    document = pod(node, "job", image="busybox")
    document["spec"]["restartPolicy"] = "Never"
    await client.create(pods, document)
    await until(client, pods, "job", condition("Ready"))
    node.exit(namespace, "job", 0)
    found = await until(client, pods, "job", lambda p: bool(p) and p["status"]["phase"] == "Succeeded")
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


async def test_files_from_the_downward_api_follow_the_pod(node: PlayedKubelet, client: Client, namespace: str):
    pods = PODS.within(namespace)
    hold = {"path": "hold", "fieldRef": {"fieldPath": "metadata.annotations['played.example.com/hold']"}}
    probe = {
        "exec": {"command": ["sh", "-c", "grep -q no $VOLUMES/info/hold"]},
        "periodSeconds": 1,
        "timeoutSeconds": 10,
    }
    document = pod(node, readinessProbe=probe)
    document["metadata"]["annotations"] = {"played.example.com/hold": "yes"}
    document["spec"]["volumes"] = [{"name": "info", "downwardAPI": {"items": [hold]}}]
    await client.create(pods, document)
    held = await until(client, pods, "agent", lambda p: bool(p) and p["status"].get("phase") == "Running")
    assert condition("Ready", "False")(held)
    await client.merge(pods, "agent", {"metadata": {"annotations": {"played.example.com/hold": "no"}}})
    await until(client, pods, "agent", condition("Ready"))


async def test_a_node_may_not_be_another(node: PlayedKubelet, control_plane: ControlPlane, client: Client):
    """The Node authorizer applies: a played kubelet with another node's credentials gets nowhere."""
    config = control_plane.client_kubeconfig("system:node:somebody-else", ["system:nodes"])
    folder = Path(tempfile.mkdtemp(prefix="pk", dir="/tmp"))
    impostor = PlayedKubelet(node.name, config, folder)
    with pytest.raises(ApiError):
        await impostor.start()
    shutil.rmtree(folder)
