import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane import CommandFailedError, ControlPlane

pytestmark = pytest.mark.cluster

SERVERS = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mentions(folder: Path) -> list[int]:
    """Return the processes whose command line names ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_dead(pids: list[int], seconds: float = 20) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def claims(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_all_four_run_and_say_their_version(control_plane):
    assert set(control_plane.servers) == SERVERS
    assert all(control_plane.servers.values())
    version = json.loads(await control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"] == "v1.36.3"


async def test_helm_renders_for_a_recent_kubernetes(control_plane, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: a\nversion: 1.0.0\nkubeVersion: '>=1.36.0'\n")
    (tmp_path / "templates" / "a.yaml").write_text("v: {{ .Capabilities.KubeVersion.Version }}\n")
    done = subprocess.run(
        [control_plane.binaries["helm"], "template", tmp_path], capture_output=True, text=True, check=True
    )
    assert "v: v1.37" in done.stdout  # of its client library, not the v1.20 of a bare build


def test_a_namespace_is_applied_from_a_sync_test(control_plane):
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "launcher-sync"}}
    assert "created" in control_plane.kubectl_sync("apply", "-f", "-", stdin=json.dumps(manifest))
    with pytest.raises(CommandFailedError, match="not found"):
        control_plane.kubectl_sync("get", "namespace", "launcher-none")


async def test_a_token_is_issued_and_accepted(control_plane):
    await control_plane.kubectl("create", "namespace", "launcher-token")
    await control_plane.kubectl("create", "serviceaccount", "a", "-n", "launcher-token")
    token = (await control_plane.kubectl("create", "token", "a", "-n", "launcher-token")).strip()
    assert claims(token)["sub"] == "system:serviceaccount:launcher-token:a"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = json.loads(await control_plane.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
    assert answer["status"]["user"]["username"] == "system:serviceaccount:launcher-token:a"


async def test_a_token_bound_to_a_pod_says_its_node(control_plane):
    space = "launcher-bound"
    await control_plane.kubectl("create", "namespace", space)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "launcher-node"}}
    await control_plane.kubectl("create", "-f", "-", stdin=json.dumps(node))
    await control_plane.kubectl("create", "serviceaccount", "a", "-n", space)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": space},
        "spec": {
            "serviceAccountName": "a",
            "nodeName": "launcher-node",
            "containers": [{"name": "c", "image": "example.invalid/none"}],
        },
    }
    await control_plane.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    token = await control_plane.kubectl(
        "create", "token", "a", "-n", space, "--bound-object-kind=Pod", "--bound-object-name=p"
    )
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token.strip()}}
    answer = json.loads(await control_plane.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
    assert answer["status"]["user"]["extra"]["authentication.kubernetes.io/node-name"] == ["launcher-node"]
    await control_plane.kubectl("delete", "node", "launcher-node")


async def test_a_node_s_client_may_write_its_own_node_only(control_plane):
    path = control_plane.client_kubeconfig("system:node:launcher-a", ["system:nodes"])

    async def as_node(*args: str, stdin: str = "") -> str:
        return await control_plane.kubectl(f"--kubeconfig={path}", *args, stdin=stdin)

    def node(name: str) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})

    assert "created" in await as_node("create", "-f", "-", stdin=node("launcher-a"))
    with pytest.raises(CommandFailedError, match='is not allowed to modify node "launcher-b"'):
        await as_node("create", "-f", "-", stdin=node("launcher-b"))
    await control_plane.kubectl("delete", "node", "launcher-a")


async def test_any_other_user_has_no_rights_but_is_known(control_plane):
    path = control_plane.client_kubeconfig("someone", ["some:group"])
    who = json.loads(await control_plane.kubectl(f"--kubeconfig={path}", "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "someone"
    assert "some:group" in who["status"]["userInfo"]["groups"]
    with pytest.raises(CommandFailedError, match="forbidden"):
        await control_plane.kubectl(f"--kubeconfig={path}", "get", "nodes")


async def test_admission_policies_are_served(control_plane):
    names = await control_plane.kubectl("api-resources", "--api-group=admissionregistration.k8s.io", "-o", "name")
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in names.split()
    assert "validatingadmissionpolicies.admissionregistration.k8s.io" in names.split()


async def test_extension_api_servers_find_the_front_proxy_s_authority(control_plane):
    data = json.loads(
        await control_plane.kubectl(
            "get", "configmap", "extension-apiserver-authentication", "-n", "kube-system", "-o", "json"
        )
    )["data"]
    assert data["requestheader-client-ca-file"] == control_plane.pki.front_proxy_ca.files.cert.read_text()
    assert json.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]


async def test_another_user_of_the_machine_does_not_get_into_etcd(control_plane):
    def answered(context: ssl.SSLContext) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", control_plane.ports.etcd), timeout=5) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b"200 OK" in tls.recv(1000)
        except (ssl.SSLError, ConnectionError):  # an alert or a reset, whichever is read first
            return False

    pki = control_plane.pki
    context = ssl.create_default_context(cafile=pki.etcd_ca.files.cert)
    assert not answered(context)
    stranger = pki.ca.client("stranger", "stranger")  # kube-apiserver would know this one
    context.load_cert_chain(stranger.cert, stranger.key)
    assert not answered(context)
    context.load_cert_chain(pki.etcd_client.cert, pki.etcd_client.key)
    assert answered(context)


async def test_the_api_server_goes_and_comes_back_on_its_port_with_its_objects(control_plane):
    await control_plane.kubectl("create", "namespace", "launcher-away")
    pid = control_plane.servers["kube-apiserver"]
    others = {name: pid for name, pid in control_plane.servers.items() if name != "kube-apiserver"}
    await control_plane.stop_apiserver()
    try:
        assert not alive(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", control_plane.ports.apiserver), timeout=5)
        with pytest.raises(CommandFailedError, match="refused"):
            await control_plane.kubectl("get", "namespace", "launcher-away")
    finally:
        await control_plane.start_apiserver()
    assert "launcher-away" in await control_plane.kubectl("get", "namespace", "launcher-away")
    assert {name: control_plane.servers[name] for name in others} == others


async def test_nothing_is_left_behind():
    async with ControlPlane() as plane:
        folder, ports = plane.run_dir, plane.ports
        pids = [pid for pid in plane.servers.values() if pid]
        assert len(pids) == 4
        assert set(mentions(folder)) >= set(pids)
    assert [pid for pid in pids if alive(pid)] == []
    assert mentions(folder) == []
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports.apiserver), timeout=5)


async def test_a_kept_run_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "run"
    async with ControlPlane(folder, keep=True) as plane:
        await plane.kubectl("create", "namespace", "kept")
        await plane.kubectl("create", "serviceaccount", "a", "-n", "kept")
        token = (await plane.kubectl("create", "token", "a", "-n", "kept")).strip()
    assert folder.is_dir()
    async with ControlPlane(folder) as plane:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = json.loads(await plane.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
        assert answer["status"].get("authenticated"), answer
    assert not folder.exists()


async def test_a_folder_that_was_there_keeps_what_is_not_ours(tmp_path):
    (tmp_path / "theirs").write_text("x")
    plane = ControlPlane(tmp_path)
    starting = asyncio.create_task(plane.start())
    async with asyncio.timeout(60):
        while not (tmp_path / "etcd" / "member").exists():
            await asyncio.sleep(0.02)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]
    assert mentions(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_however_the_command_ends_its_servers_end(tmp_path, how):
    command = [sys.executable, "-m", "vfio_ap_sim.controlplane", "up"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    # A shell's job in the background ignores SIGINT, and so would whatever it starts
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        folder = Path(process.stdout.readline().strip()).parent.parent
        pids = mentions(folder)
        assert len(pids) == 4
    finally:
        process.send_signal(how)
        process.wait(30)
        process.stdout.close()
    assert wait_dead(pids) == []
    if how is not signal.SIGKILL:  # nobody is left to delete it then
        assert list(tmp_path.iterdir()) == []
