"""A pod's token: asked for as the kubelet does, bound to the pod, renewed before it ends."""

import asyncio
import json
import stat
from pathlib import Path

import pytest
import yaml

from vfio_ap_kube.client import ApiError
from vfio_ap_sim.kubelet.tokens import MOUNT, PodToken, read_cluster, token_source

SOURCE = {"expirationSeconds": 3607, "path": "token"}
CONTAINER = {"name": "c", "volumeMounts": [{"name": "kube-api-access-x", "mountPath": MOUNT}]}
POD = {
    "metadata": {"name": "agent", "namespace": "ap", "uid": "u1"},
    "spec": {
        "serviceAccountName": "robot",
        "containers": [CONTAINER],
        "volumes": [
            {"name": "other", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "x"}}]}},
            {
                "name": "kube-api-access-x",
                "projected": {
                    "sources": [{"serviceAccountToken": SOURCE}, {"configMap": {"name": "kube-root-ca.crt"}}]
                },
            },
        ],
    },
}


class Api:
    def __init__(self, lifetime: int = 3607) -> None:
        self.lifetime = lifetime
        self.requests: list[tuple[str, dict]] = []
        self.down = 0

    async def request(self, method: str, path: str, *, body: dict) -> dict:
        assert method == "POST"
        if self.down:
            self.down -= 1
            raise ApiError(0, "Unreachable", "gone")
        self.requests.append((path, body))
        return {"spec": {"expirationSeconds": self.lifetime}, "status": {"token": f"token-{len(self.requests)}"}}


def test_only_a_container_that_mounts_the_usual_place_has_a_token():
    assert token_source(POD, CONTAINER) == SOURCE
    assert token_source(POD, {"name": "d"}) is None
    assert token_source(POD, {"name": "e", "volumeMounts": [{"name": "other", "mountPath": "/t"}]}) is None


async def test_the_files_are_private_and_name_each_other(tmp_path: Path):
    api = Api()
    token = PodToken(api, {"server": "https://s"}, POD, SOURCE, tmp_path)  # type: ignore[arg-type]
    await token.prepare()
    ((path, body),) = api.requests
    assert path == "/api/v1/namespaces/ap/serviceaccounts/robot/token"
    assert body["spec"]["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "agent", "uid": "u1"}
    assert body["spec"]["expirationSeconds"] == 3607
    config = json.loads(token.kubeconfig.read_text())
    file = Path(config["users"][0]["user"]["tokenFile"])
    assert file.read_text() == "token-1"
    assert config["clusters"][0]["cluster"] == {"server": "https://s"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, token.kubeconfig)} == {0o600}


@pytest.mark.looptime
async def test_it_is_renewed_after_four_fifths_and_again_when_that_fails(tmp_path: Path):
    api = Api(lifetime=1000)
    token = PodToken(api, {}, POD, SOURCE, tmp_path)  # type: ignore[arg-type]
    await token.prepare()
    task = asyncio.create_task(token.keep())
    await asyncio.sleep(799)
    assert len(api.requests) == 1
    await asyncio.sleep(2)
    assert (tmp_path / "token").read_text() == "token-2"
    api.down = 2
    await asyncio.sleep(800)
    assert len(api.requests) == 2
    await asyncio.sleep(15)
    assert (tmp_path / "token").read_text() == "token-3"
    task.cancel()


def test_a_relative_certificate_authority_is_found_from_anywhere(tmp_path: Path):
    config = {
        "current-context": "b",
        "contexts": [{"name": "a", "context": {"cluster": "x"}}, {"name": "b", "context": {"cluster": "y"}}],
        "clusters": [
            {"name": "x", "cluster": {"server": "wrong"}},
            {"name": "y", "cluster": {"server": "right", "certificate-authority": "ca.crt"}},
        ],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    assert read_cluster(tmp_path / "config") == {
        "server": "right",
        "certificate-authority": str(tmp_path / "ca.crt"),
    }
