"""The webhook, for API servers without MutatingAdmissionPolicy, served by the operator: the same as by policy."""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from vfio_ap_kube.client import Client
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.preconditions import policies
from vfio_ap_sim.cluster.simcluster import SYSTEM
from vfio_ap_sim.controlplane import CommandFailedError
from vfio_ap_sim.controlplane.ports import free_ports

from ..support import until
from .conftest import OPERATOR, PENDING
from .objects import ENTRY, HOOKS, MATRIX, PAYMENTS, UUID, launcher, made, sidecar, vmi, without

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]

USERS = '{"image":"user/side:1","args":["a","]"]}'
FIRMWARE = {"uuid": "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11", "serial": "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c12"}
VMIS = {
    "plain": vmi(firmware=FIRMWARE),
    "no resources": without(vmi(firmware=FIRMWARE), "spec", "domain", "resources"),
    "no memory": without(
        vmi(firmware=FIRMWARE, resources={"requests": {"memory": "128Mi"}}), "spec", "domain", "memory"
    ),
    "limits": vmi(firmware=FIRMWARE, resources={"limits": {"cpu": "2"}}),
    "overhead": vmi(
        firmware=FIRMWARE,
        memory={"guest": "1Gi", "reservedOverhead": {"addedOverhead": "3Gi", "memLock": "NotRequired"}},
    ),
    "strategy": {**vmi(), "spec": {**vmi(firmware=FIRMWARE)["spec"], "evictionStrategy": "LiveMigrate"}},
    "uuid": vmi({MATRIX: "payments", UUID: PAYMENTS}, firmware=FIRMWARE),
    **{
        f"hooks {text}": vmi({MATRIX: "payments", HOOKS: text}, firmware=FIRMWARE)
        for text in ("[]", " [\n]\n", f"[{USERS}]", f" \u00a0[ {USERS} , {USERS} ]\n", f"[{USERS},{ENTRY}]")
    },
}
OWN = {"automountServiceAccountToken": False}
PODS = {
    "first boot": launcher(**OWN),
    "target": launcher(target=True, **OWN),
    "second sidecar": launcher(sidecar("user/side:1"), sidecar(name="hook-sidecar-1"), target=True, **OWN),
    "old sidecar": launcher(sidecar("vfio-ap-hook@sha256:" + "0" * 64), target=True, **OWN),
    "gated": launcher(schedulingGates=[{"name": "example.com/mine"}], **OWN),
    "security": launcher(sidecar(securityContext={"runAsUser": 107}), target=True, **OWN),
}


def essence(document):
    metadata = document["metadata"]
    return {key: metadata.get(key) for key in ("labels", "annotations")} | {"spec": document["spec"]}


def tried(editor, kubevirt):
    """Return what becomes of each object."""
    found = {name: made(editor, document) for name, document in VMIS.items()}
    found |= {name: made(kubevirt, document) for name, document in PODS.items()}
    return {name: essence(document) for name, document in found.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def by_policy(cluster, spaces, editor, kubevirt):
    """What becomes of each object where policies add to it."""
    return tried(editor, kubevirt)


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def served(cluster, admin, by_policy, tmp_path_factory):
    """The chart in webhook mode; a function that starts the operator, which serves it."""
    port, health = free_ports(2)
    values = {**PENDING, "admission.mode": "webhook", "admission.webhookPort": str(port)}
    await cluster.install(**values)
    # No kube-proxy leads to the Service: the API server asks for this name instead
    service = {
        "spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": None, "clusterIPs": None}
    }
    admin.kubectl("patch", "service", "vfio-ap-operator", "-n", SYSTEM, "--type=merge", "-p", json.dumps(service))
    folder = tmp_path_factory.mktemp("webhook")
    running = []

    def start():
        write_certificate(admin, folder)
        container = admin.get("deployment", "vfio-ap-operator", "-n", SYSTEM)["spec"]["template"]["spec"][
            "containers"
        ]
        given = {variable["name"]: variable.get("value") for variable in container[0]["env"]}
        given |= {"POD_NAME": "here", "POD_NAMESPACE": SYSTEM, "POD_IP": "127.0.0.1", "HEALTH_PORT": str(health)}
        given |= {"WEBHOOK_CERTIFICATE": str(folder), "KUBECONFIG": str(cluster.plane.client_kubeconfig(OPERATOR))}
        program = Path(sys.executable).with_name("vfio-ap-operator")
        with (folder / "log").open("a") as log:
            running.append(subprocess.Popen([program], env={**os.environ, **given}, stderr=log))

    yield start, values
    for process in running:
        process.terminate()
        process.wait(20)
    await cluster.install(**PENDING, **{"admission.mode": "auto"})


def write_certificate(admin, folder):
    secret = admin.get("secret", "vfio-ap-webhook", "-n", SYSTEM)
    for name, text in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(text))
    return secret


def possible(who, document):
    with contextlib.suppress(CommandFailedError):
        return made(who, document)
    return None


async def test_the_webhook_makes_of_each_object_what_the_policy_makes_of_it(
    cluster, admin, editor, kubevirt, by_policy, served
):
    assert admin.get("mutatingadmissionpolicies")["items"] == []
    # Nobody serves yet: what needs the webhook waits for it, and nothing else does
    assert 'failed calling webhook "vmis.ap.s390x.io"' in editor.refused(vmi())
    assert 'failed calling webhook "pods.ap.s390x.io"' in kubevirt.refused(launcher())
    assert possible(editor, vmi({}, name="plain"))
    start, _ = served
    start()
    await asyncio.to_thread(until, lambda: possible(editor, vmi()), "the webhook served")
    found = tried(editor, kubevirt)
    for name, document in by_policy.items():
        assert found[name] == document, name
    async with Client(from_kubeconfig(cluster.plane.client_kubeconfig(OPERATOR)), manager="test") as client:
        assert await policies.check(client) is None


async def test_what_the_webhook_does_not_add_is_refused_as_before(editor, kubevirt, served):
    assert "may not use matrix secret" in editor.refused(vmi({MATRIX: "secret"}))
    assert "is not a JSON list" in editor.refused(vmi({MATRIX: "payments", HOOKS: "{}"}))
    assert "nothing holds this target" in kubevirt.refused(launcher(sidecar("other:1"), target=True))


async def test_post_copy_is_turned_off_by_the_webhook_as_well(admin, kubevirt, editor, served):
    editor.create(vmi())
    try:
        state = {"migrationConfiguration": {"allowPostCopy": True}}
        patch = json.dumps({"status": {"migrationState": state}})
        kubevirt.kubectl("patch", "vmi", "one", "-n", "bank", "--type=merge", "-p", patch)
        found = admin.get("vmi", "one", "-n", "bank")["status"]["migrationState"]
        assert found == {"migrationConfiguration": {"allowPostCopy": False}}
    finally:
        admin.kubectl("delete", "vmi", "one", "-n", "bank", "--timeout=60s")


async def test_the_certificate_is_kept_by_an_upgrade_and_renewed_by_one_after_a_year(cluster, admin, served):
    _, values = served
    before = admin.get("secret", "vfio-ap-webhook", "-n", SYSTEM)
    await cluster.install(**values)
    assert admin.get("secret", "vfio-ap-webhook", "-n", SYSTEM)["data"] == before["data"]
    admin.kubectl(
        "annotate", "secret", "vfio-ap-webhook", "-n", SYSTEM, "--overwrite", "ap.s390x.io/made=1000000000"
    )
    await cluster.install(**values)
    after = admin.get("secret", "vfio-ap-webhook", "-n", SYSTEM)
    assert after["data"]["tls.crt"] != before["data"]["tls.crt"]
    hooks = admin.get("mutatingwebhookconfiguration", "vfio-ap")["webhooks"]
    assert {hook["clientConfig"]["caBundle"] for hook in hooks} == {after["data"]["ca.crt"]}
    ssl.create_default_context(cadata=base64.b64decode(after["data"]["ca.crt"]).decode())
