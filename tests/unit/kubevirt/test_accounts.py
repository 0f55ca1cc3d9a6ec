import asyncio
import json
import stat

import pytest

from vfio_ap_kube.client import ApiError
from vfio_ap_kube.credentials import Credentials
from vfio_ap_sim.kubevirt.accounts import LIFETIME, ServiceAccount, as_handler


class Api:
    def __init__(self) -> None:
        self.paths: list[str] = []
        self.down = 0

    async def request(self, method: str, path: str, *, body: dict) -> dict:
        if self.down:
            self.down -= 1
            raise ApiError(0, "Unreachable", "gone")
        self.paths.append(path)
        return {"status": {"token": f"token-{len(self.paths)}"}}


@pytest.fixture
def admin(tmp_path):
    path = tmp_path / "admin.kubeconfig"
    clusters = [{"name": "c", "cluster": {"server": "https://s"}}]
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    path.write_text(json.dumps({"current-context": "x", "contexts": contexts, "clusters": clusters, "users": []}))
    return path


async def test_the_kubeconfig_has_the_accounts_token_and_is_private(tmp_path, admin):
    api = Api()
    account = ServiceAccount(api, "kubevirt-apiserver", tmp_path)
    await account.prepare(admin)
    assert api.paths == ["/api/v1/namespaces/kubevirt/serviceaccounts/kubevirt-apiserver/token"]
    config = json.loads(account.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://s"
    token = tmp_path / "kubevirt-apiserver.token"
    assert config["users"][0]["user"] == {"tokenFile": str(token)}
    assert token.read_text() == "token-1"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (token, account.kubeconfig)} == {0o600}


@pytest.mark.looptime
async def test_the_token_is_renewed_in_time_also_after_an_outage(tmp_path, admin):
    api = Api()
    account = ServiceAccount(api, "a", tmp_path)
    await account.prepare(admin)
    keeper = asyncio.create_task(account.keep())
    await asyncio.sleep(0.79 * LIFETIME)
    assert (tmp_path / "a.token").read_text() == "token-1"
    api.down = 2
    await asyncio.sleep(0.19 * LIFETIME)
    assert (tmp_path / "a.token").read_text() == "token-2"
    keeper.cancel()


def test_the_handler_speaks_as_itself_with_its_nodes_name():
    headers = as_handler(Credentials("https://s", None, "secret"), "kv1").headers()
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Impersonate-User"] == "system:serviceaccount:kubevirt:kubevirt-handler"
    assert headers["Impersonate-Extra-authentication.kubernetes.io%2fnode-name"] == "kv1"
