"""Credentials, errors and conditions of the thin edge."""

import pytest
import yaml

from vfio_ap_kube import conditions, credentials
from vfio_ap_kube.client import NODES, ApiError, Client
from vfio_ap_kube.credentials import Credentials, CredentialsError

KUBECONFIG = {
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/"}}],
    "users": [{"name": "u", "user": {"tokenFile": "token"}}],
}


def write(tmp_path, document):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_renewed_token_is_used(tmp_path):
    (tmp_path / "token").write_text("one\n")
    found = credentials.load(str(write(tmp_path, KUBECONFIG)))
    assert (found.server, found.headers()) == ("http://127.0.0.1:1", {"Authorization": "Bearer one"})
    (tmp_path / "token").write_text("two")
    assert found.headers() == {"Authorization": "Bearer two"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"current-context": "x"}, "not a usable kubeconfig"),
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "exec"),
        (
            {"clusters": [{"name": "k", "cluster": {"server": "https://x", "insecure-skip-tls-verify": True}}]},
            "refused",
        ),
        (
            {"clusters": [{"name": "k", "cluster": {"server": "https://x", "certificate-authority": "no"}}]},
            "certificates",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path, change, word):
    with pytest.raises(CredentialsError, match=word):
        credentials.from_kubeconfig(write(tmp_path, KUBECONFIG | change))


def test_without_credentials_what_was_looked_for_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialsError, match="KUBECONFIG"):
        credentials.load()


async def test_the_servers_words_reach_the_caller(api, client):
    api.fail = [422]
    with pytest.raises(ApiError, match="played 422") as caught:
        await client.get(NODES, "n1")
    assert caught.value.status == 422


async def test_a_server_that_is_away_is_an_api_error():
    async with Client(Credentials("http://127.0.0.1:1", None), manager="test") as client:
        with pytest.raises(ApiError) as caught:
            await client.get(NODES, "n1")
    assert caught.value.status == 0


def test_a_condition_keeps_its_time_while_its_status_stays():
    old = [{"type": "Ready", "status": "False", "reason": "A", "lastTransitionTime": "t1"}]
    same = conditions.merged(old, [{"type": "Ready", "status": "False", "reason": "B"}], "t2")
    other = conditions.merged(old, [{"type": "Ready", "status": "True", "reason": "C"}], "t2")
    assert (same[0]["lastTransitionTime"], same[0]["reason"]) == ("t1", "B")
    assert other[0]["lastTransitionTime"] == "t2"
