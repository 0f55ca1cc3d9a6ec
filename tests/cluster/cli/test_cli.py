"""The program as it is installed, on a real API server and KubeVirt, and then without any cluster."""

import json

import pytest
import yaml

from vfio_ap_sim.cluster import SYSTEM

from .conftest import Terminal

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]

ARCHIVE = {
    "apiVersion": "ap.s390x.io/v1alpha1",
    "kind": "APMatrix",
    "metadata": {"name": "archive"},
    "spec": {"adapters": [6], "domains": [9, 10], "allowedNamespaces": ["bank"], "placement": "Everywhere"},
}


def rows(text):
    return [line.split() for line in text.splitlines()]


async def launcher(terminal, vm):
    said = await terminal.run("kubectl", "get", "pods", "-n", "bank", "-o", "json", f"-lvm.kubevirt.io/name={vm}")
    return json.loads(said.out)["items"][0]["metadata"]["name"]


async def test_kubectl_finds_it_and_completes_it(terminal):
    said = await terminal.run("kubectl", "ap", "nodes", "-o", "name")
    assert (said.code, said.out.split()) == (0, ["apnode/lnx1", "apnode/lnx2", "apnode/lnx3"])
    assert "matrix\t" in (await terminal.run("kubectl", "__complete", "ap", "ma")).out
    assert (await terminal.run("kubectl", "__complete", "ap", "matrix", "pa")).out.splitlines()[0] == "payments"


async def test_nodes(terminal):
    said = await terminal.ap("nodes", columns=120)
    assert said.code == 0
    assert ["lnx1", "IBM-3931-LNX1", "LNX1", "5-6", "(2)", "30", "2", "1/1", "v4", "alive", "Ready"] in rows(
        said.out
    )
    said = await terminal.ap("nodes", "lnx1")
    assert ["5", "CEX8C", *"hhhh", "A*", *"hhhhhhhhhhh"] in rows(said.out)
    assert "in use by bank/ledger" in said.out


async def test_matrices(terminal):
    said = await terminal.ap("matrix")
    assert said.code == 0
    assert "overlaps APMatrix payments" in said.out
    said = await terminal.ap("matrix", "payments")
    assert said.code == 0
    assert ["lnx1", "Ready", "-", "yes"] in rows(said.out)
    assert "VM bank/ledger has it" in said.out
    assert (await terminal.ap("matrix", "greedy")).code == 1


async def test_check_and_explain(terminal):
    said = await terminal.ap("check", "vm/ledger", "-n", "bank", "-o", "name")
    assert (said.code, said.out) == (0, "node/lnx2\n")
    said = await terminal.ap("check", "vm/ledger", "-n", "bank", "--node", "lnx3")
    assert said.code == 1
    assert "queue 05.0004" in said.out
    said = await terminal.ap("explain", f"pod/{await launcher(terminal, 'second')}", "-n", "bank")
    assert said.code == 1
    assert "MatrixInUse" in said.out
    assert "what to do" in said.out


async def test_what_plan_foretells_is_what_becomes(terminal, cluster, tmp_path):
    path = tmp_path / "archive.yaml"
    path.write_text(yaml.safe_dump(ARCHIVE))
    foretold = await terminal.ap("plan", "-f", str(path), "-o", "json")
    assert foretold.code == 0, foretold.out
    before = json.loads((await terminal.ap("nodes", "-o", "json")).out)
    assert {row["name"]: "archive" in row["matrices"] for row in before} == dict.fromkeys(
        ("lnx1", "lnx2", "lnx3"), False
    )
    await cluster.apply(ARCHIVE)
    try:
        await cluster.ready("archive")
        after = json.loads((await terminal.ap("nodes", "-o", "json")).out)
        moved = {
            new["name"]: new["guestQueues"] - old["guestQueues"] for old, new in zip(before, after, strict=True)
        }
        assert moved == {n["node"]: n["masks"]["leave"] for n in json.loads(foretold.out)["nodes"]}
    finally:
        await cluster.plane.kubectl("delete", "apmatrix", "archive", "--timeout=60s", timeout=70)


async def test_doctor_is_green_and_its_patch_mends_what_is_red(terminal):
    said = await terminal.ap("doctor")
    assert said.code == 0, said.out
    unsafe = '{"spec":{"configuration":{"mediatedDevicesConfiguration":null}}}'
    await terminal.run("kubectl", "patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", unsafe)
    said = await terminal.ap("doctor", "-o", "json")
    assert said.code == 1
    (red,) = [check for check in json.loads(said.out) if check["state"] == "FAIL"]
    mended = await terminal.run("sh", "-c", red["remedy"])
    assert mended.code == 0, mended.err
    assert (await terminal.ap("doctor")).code == 0


async def test_a_must_gather_answers_as_the_cluster_did(terminal, tmp_path):
    path = str(tmp_path / "case.tar.gz")
    said = await terminal.ap("must-gather", "-o", path)
    assert (said.code, said.out.strip()) == (0, path)
    wanted = tmp_path / "archive.yaml"
    wanted.write_text(yaml.safe_dump(ARCHIVE))
    for words in (
        ["nodes"],
        ["nodes", "lnx1"],
        ["matrix"],
        ["matrix", "payments"],
        ["check", "vm/ledger", "-n", "bank", "-o", "wide"],
        ["plan", "-f", str(wanted)],
    ):
        there, offline = await terminal.ap(*words), await terminal.ap(*words, "--snapshot", path, cluster=False)
        assert (offline.code, offline.out) == (there.code, there.out), words
    assert (await terminal.ap("doctor", "--snapshot", path, cluster=False)).code == 0


async def test_no_secret_is_in_a_must_gather(terminal, cluster, tmp_path):
    secret = "s3cret-of-the-bank"
    kubectl = cluster.plane.kubectl
    await kubectl("create", "secret", "generic", "pin", "-n", SYSTEM, f"--from-literal=pin={secret}")
    await kubectl("create", "configmap", "notes", "-n", SYSTEM, f"--from-literal=pin={secret}")
    await kubectl("annotate", "vm", "ledger", "-n", "bank", f"note={secret}")
    path = tmp_path / "case.tar.gz"
    assert (await terminal.ap("must-gather", "-o", str(path))).code == 0
    said = await terminal.run("sh", "-c", f"tar xzOf {path} | grep -c {secret}; tar tzf {path} | grep -ci secret")
    assert said.out.split() == ["0", "0"]


async def test_who_may_not_look_is_told_so(cluster):
    stranger = Terminal(cluster, cluster.plane.client_kubeconfig("stranger"))
    said = await stranger.ap("nodes")
    assert said.code == 3
    assert "apnodes.ap.s390x.io is forbidden" in said.err
    assert said.err.count("\n") == 1
    said = await stranger.ap("doctor")
    assert said.code == 1
    # Anybody may read KubeVirt's configuration; what may not be read is not green
    assert "ok       policies" not in said.out
    assert "not looked at: " in said.out


async def test_a_context_that_is_not_there(terminal):
    said = await terminal.ap("nodes", "--context", "nosuch")
    assert (said.code, "no context 'nosuch'" in said.err) == (3, True)
