"""The webhook's server: real TLS, a played API server behind it."""

import base64
import json
import ssl

import aiohttp
import pytest

from vfio_ap.errors import Refusal
from vfio_ap_kube.client import ApiError
from vfio_ap_operator.admission import server
from vfio_ap_operator.admission.settings import WebhookSettings
from vfio_ap_operator.admission.sidecar import Sidecar
from vfio_ap_sim.controlplane.pki import Authority
from vfio_ap_sim.controlplane.ports import free_ports

UUID = "b92c2167-437e-5907-846c-4d29ccba27ff"
VMI = {"metadata": {"annotations": {"ap.s390x.io/matrix": "payments"}}, "spec": {"domain": {}}}
MOVING = {**VMI, "status": {"migrationState": {"migrationConfiguration": {"allowPostCopy": True}}}}
POD = {
    "metadata": {},
    "spec": {"containers": [{"image": "c", "resources": {"limits": {"ap.s390x.io/payments": "1"}}}]},
}


class Namespaces:
    """Stands for the client."""

    failing = False

    async def get(self, resource, name):
        if self.failing:
            raise ApiError(0, "Unreachable", "no route")
        assert (resource.plural, name) == ("namespaces", "bank")
        return {"metadata": {"labels": {"use.ap.s390x.io/payments": UUID}}}


def hopeless(migration):
    """Refuse the migrations of one VM."""
    if migration["spec"]["vmiName"] == "stuck":
        return Refusal("NoTarget", "VM bank/stuck", "no node can take it", "give one what is missing")
    return None


def review(found):
    request = {"uid": "u-1", "namespace": "bank", "object": found}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def certify(folder):
    authority = Authority(folder, "ca")
    pair = authority.serving("tls", ["localhost"])
    assert (pair.cert.name, pair.key.name) == ("tls.crt", "tls.key")
    return ssl.create_default_context(cafile=authority.files.cert)


@pytest.fixture
async def webhook(tmp_path):
    """Return a client's TLS context, the address and the namespaces."""
    context, (port,) = certify(tmp_path), free_ports(1)
    settings = WebhookSettings(port, tmp_path, Sidecar("vfio-ap-hook:1"), "External")
    namespaces = Namespaces()
    async with server.serving(namespaces, settings, "127.0.0.1", hopeless):
        yield context, f"https://localhost:{port}", namespaces


async def post(webhook, path, document):
    context, address, _ = webhook
    data = document if isinstance(document, str) else json.dumps(document)
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(address + path, data=data, headers=headers, ssl=context) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("path", "document", "added"),
    [("/vmis", VMI, UUID), ("/pods", POD, "placement"), ("/postcopy", MOVING, "allowPostCopy")],
)
async def test_a_review_is_answered_with_a_patch(webhook, path, document, added):
    status, text = await post(webhook, path, review(document))
    response = json.loads(text)["response"]
    assert (status, response["uid"], response["allowed"]) == (200, "u-1", True)
    assert response["patchType"] == "JSONPatch"
    assert added in base64.b64decode(response["patch"]).decode()


async def test_nothing_to_add_is_no_patch(webhook):
    _, text = await post(webhook, "/vmis", review({"metadata": {}, "spec": {"domain": {}}}))
    assert json.loads(text)["response"] == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    "document",
    [
        "nonsense",
        "[]",
        "{}",
        {"request": None},
        review(None),
        review({"metadata": {}}),
        review({**VMI, "spec": []}),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/vmis", "/postcopy", "/pods"])
async def test_a_malformed_review_is_refused_and_ends_nothing(webhook, path, document):
    status, text = await post(webhook, path, document)
    assert status == 400 or '"patch"' not in text
    assert (await post(webhook, "/pods", review(POD)))[0] == 200


async def test_without_the_namespace_the_answer_is_an_error(webhook):
    webhook[2].failing = True
    status, text = await post(webhook, "/vmis", review(VMI))
    assert status == 503
    assert "cannot read the namespace: no route" in text


async def test_a_new_certificate_is_taken_while_it_runs(tmp_path, monkeypatch):
    reloaded = []
    monkeypatch.setattr(server, "_RELOAD", 0.01)
    load = server._load
    monkeypatch.setattr(server, "_load", lambda *given: (load(*given), reloaded.append(True)))
    certify(tmp_path)
    (port,) = free_ports(1)
    settings = WebhookSettings(port, tmp_path, Sidecar("vfio-ap-hook:1"), None)
    async with server.serving(Namespaces(), settings, "127.0.0.1", hopeless):
        for file in tmp_path.iterdir():
            file.unlink()
        context = certify(tmp_path)
        while len(reloaded) < 2:
            await server.asyncio.sleep(0.01)
        assert (await post((context, f"https://localhost:{port}", None), "/pods", review(POD)))[0] == 200


@pytest.mark.parametrize(("vm", "allowed"), [("stuck", False), ("free", True)])
async def test_a_migration_is_allowed_or_refused_with_reason_and_remedy(webhook, vm, allowed):
    status, text = await post(webhook, "/migrations", review({"spec": {"vmiName": vm}}))
    response = json.loads(text)["response"]
    assert (status, response["uid"], response["allowed"]) == (200, "u-1", allowed)
    if not allowed:
        message = "VM bank/stuck: no node can take it; give one what is missing"
        assert response["status"] == {"code": 403, "reason": "Forbidden", "message": message}


async def test_what_is_no_migration_is_an_error_and_the_api_server_ignores_it(webhook):
    status, _ = await post(webhook, "/migrations", review({"spec": {}}))
    assert status == 400
