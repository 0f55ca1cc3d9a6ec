"""Which injection the chart installs, and whether what it installed is in order."""

import subprocess

import pytest
import yaml

from vfio_ap_kube.client import Client
from vfio_ap_kube.credentials import from_kubeconfig
from vfio_ap_kube.preconditions import policies

from ..support import until
from .conftest import CHART, OPERATOR, made
from .objects import GATE, launcher

KINDS = ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]


@pytest.mark.parametrize(
    ("flags", "kind", "version"),
    [
        ([], "MutatingAdmissionPolicy", "v1"),
        (["--kube-version=1.36.0"], "MutatingAdmissionPolicy", "v1"),
        (["--kube-version=1.35.9"], "MutatingWebhookConfiguration", "v1"),
        (["--kube-version=1.30.0"], "MutatingWebhookConfiguration", "v1"),
        (["--kube-version=1.35.9", "v1"], "MutatingAdmissionPolicy", "v1"),
        # It may be served and not run: that is another switch of the API server
        (["--kube-version=1.35.4", "v1beta1"], "MutatingWebhookConfiguration", "v1"),
        (["--kube-version=1.34.1", "v1beta1", "v1"], "MutatingAdmissionPolicy", "v1"),
        (["--set=admission.mode=webhook"], "MutatingWebhookConfiguration", "v1"),
        (["--set=admission.mode=policy"], "MutatingAdmissionPolicy", "v1"),
        (
            ["--kube-version=1.34.1", "v1beta1", "--set=admission.mode=policy"],
            "MutatingAdmissionPolicy",
            "v1beta1",
        ),
    ],
)
async def test_the_api_server_decides_which_one_is_installed(cluster, flags, kind, version):
    group = "admissionregistration.k8s.io"
    flags = [f if f.startswith("-") else f"--api-versions={group}/{f}/MutatingAdmissionPolicy" for f in flags]
    done = subprocess.run(
        [cluster.plane.binaries["helm"], "template", "x", CHART, *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    documents = [d for d in yaml.safe_load_all(done.stdout) if d and d["kind"].startswith("Mutating")]
    assert {d["apiVersion"] for d in documents} == {f"{group}/{version}"}
    assert {d["kind"].removesuffix("Binding") for d in documents} == {kind}


async def test_the_guard_looks_for_each_policy_and_webhook_of_the_chart(cluster):
    def installed(*flags):
        command = [cluster.plane.binaries["helm"], "template", "x", CHART, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [d for d in yaml.safe_load_all(done.stdout) if d]

    names = {kind: {d["metadata"]["name"] for d in installed() if d["kind"] == kind} for kind in KINDS}
    assert names == dict(zip(KINDS, (set(policies.REQUIRED), set(policies.INJECTING)), strict=True))
    (webhook,) = [
        d for d in installed("--set=admission.mode=webhook") if d["kind"] == "MutatingWebhookConfiguration"
    ]
    assert {hook["name"] for hook in webhook["webhooks"]} == policies.HOOKS


async def test_a_policy_that_the_api_server_does_not_know_is_not_rendered(cluster):
    flags = ["--kube-version=1.35.9", "--set=admission.mode=policy"]
    done = subprocess.run(
        [cluster.plane.binaries["helm"], "template", "x", CHART, *flags], capture_output=True, text=True
    )
    assert "has no MutatingAdmissionPolicy: set it to auto or webhook" in done.stderr


async def test_the_policies_of_the_chart_are_in_order_and_a_missing_one_is_found(cluster, admin, kubevirt, spaces):
    async with Client(from_kubeconfig(cluster.plane.client_kubeconfig(OPERATOR)), manager="test") as client:
        assert await policies.check(client) is None
        for kind, name in (
            ("validatingadmissionpolicybinding", "vfio-ap-bindings"),
            ("mutatingadmissionpolicybinding", "vfio-ap-pods"),
        ):
            whole = admin.get(kind, name)
            admin.kubectl("delete", kind, name)
            try:
                refusal = await policies.check(client)
                assert (refusal.reason, refusal.message) == ("PolicyNotBound", "it has no binding")
            finally:
                metadata = {key: whole["metadata"][key] for key in ("name", "labels", "annotations")}
                admin.create({**whole, "metadata": metadata})
        assert await policies.check(client) is None
    until(lambda: made(kubevirt, launcher(), GATE), "what was taken away in force again")
