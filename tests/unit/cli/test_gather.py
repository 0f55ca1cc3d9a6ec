"""kubectl ap must-gather: what is in the archive, and above all what is not."""

import tarfile

import pytest
import yaml

from vfio_ap_cli.exits import Stop
from vfio_ap_cli.reading import gather
from vfio_ap_cli.reading.documents import SOURCES, Documents
from vfio_ap_cli.reading.files import snapshot
from vfio_ap_cli.reading.trim import redacted, trimmed
from vfio_ap_kube.clock import time_of
from vfio_ap_kube.preconditions.kubevirt import DEFINITION, refusal_of

from .world import NOW, SYSTEM, cluster, definition, kubevirt, meta, node, pod, vm, vmi

SECRET = "hunter2-hunter2"


def documents(extra=()):
    kinds = {kind: [] for kind in SOURCES}
    for document in [*cluster(), *extra]:
        if document["kind"] in kinds:
            kinds[document["kind"]].append(document)
    found = {kind: tuple(items) for kind, items in kinds.items()}
    return Documents(
        found, now=time_of(NOW), where="https://api", system=SYSTEM, missing={"Event": "is forbidden"}
    )


def archive(tmp_path, found, logs=()):
    path = tmp_path / "out.tar.gz"
    members = gather.write(path, gather.selected(found), dict(logs), {"nodes": "NODE\n"}, "0.1.0")
    return path, members


def everything(path):
    with tarfile.open(path) as opened:
        return {m.name.partition("/")[2]: opened.extractfile(m).read().decode() for m in opened if m.isfile()}


def test_names_can_be_read_and_nothing_is_for_others(tmp_path):
    path, _ = archive(tmp_path, documents(), {"vfio-ap-operator-1/operator": "a line\n"})
    names = everything(path)
    assert "objects/apnodes/lnx1.yaml" in names
    assert "objects/pods/bank/virt-launcher-ledger-abcde.yaml" in names
    assert names["logs/vfio-ap-operator-1/operator.log"] == "a line\n"
    assert "Event: is forbidden" in names["README.txt"]
    assert path.stat().st_mode & 0o077 == 0


def test_an_archive_is_a_snapshot(tmp_path):
    path, _ = archive(tmp_path, documents())
    found = snapshot(str(path))
    assert (found.now, found.system, found.missing) == (time_of(NOW), SYSTEM, {"Event": "is forbidden"})
    assert {d["metadata"]["name"] for d in found.of("APNode")} == {"lnx1", "lnx2", "lnx3"}


def test_of_kubevirts_definition_only_the_field_that_is_looked_at_is_taken(tmp_path):
    path, _ = archive(tmp_path, documents())
    text = everything(path)[f"objects/customresourcedefinitions/{DEFINITION}.yaml"]
    assert "memLock" in text
    assert "guest" not in text
    assert refusal_of([kubevirt()], "kubevirt", yaml.safe_load(text)) is None
    assert refusal_of([kubevirt()], "kubevirt", trimmed(definition("addedOverhead"))).reason == "KubeVirtTooOld"
    assert "openAPIV3Schema" in everything(path)["objects/customresourcedefinitions/apmatrices.ap.s390x.io.yaml"]


@pytest.mark.parametrize(
    "command", [["nodes"], ["nodes", "lnx1"], ["matrix"], ["matrix", "payments"], ["doctor"]], ids=" ".join
)
def test_trimmed_objects_answer_as_whole_ones_do(ap, tmp_path, command):
    path, _ = archive(tmp_path, documents())
    whole = ap(cluster(), *command)
    again = ap([], *command, "--snapshot", str(path))
    assert (again.exit_code, again.stdout.splitlines()[1:]) == (whole.exit_code, whole.stdout.splitlines()[1:])


def leaky_vm():
    document = vm("ledger", "payments")
    document["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": SECRET,
        "my/note": SECRET,
    }
    spec = document["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "c", "cloudInitNoCloud": {"userData": f"password: {SECRET}"}}]
    spec["accessCredentials"] = [{"userPassword": SECRET}]
    spec["domain"]["firmware"] = {"serial": SECRET}
    hook = {"hooks.kubevirt.io/hookSidecars": f'[{{"args": ["{SECRET}"]}}]'}
    document["spec"]["template"]["metadata"]["annotations"] |= hook
    return document


def leaky_vmi():
    document = vmi("ledger", "payments", "lnx1")
    document["spec"]["volumes"] = [{"cloudInitConfigDrive": {"userData": SECRET}}]
    document["status"]["interfaces"] = [{"ipAddress": SECRET}]
    document["status"]["guestOSInfo"] = {"name": SECRET}
    return document


def leaky_pod():
    document = pod("ledger", "payments", "lnx1")
    container = {
        "name": "compute",
        "env": [{"name": "PASSWORD", "value": SECRET}],
        "args": [SECRET],
        "command": [SECRET],
    }
    document["spec"]["containers"] = [container]
    document["spec"]["volumes"] = [{"name": "s", "secret": {"secretName": SECRET}}]
    return document


def leaky_node():
    document = node("lnx1")
    document["metadata"]["annotations"] = {"cloud/credentials": SECRET}
    document["status"]["images"] = [{"names": [SECRET]}]
    return document


@pytest.mark.parametrize("leaky", [leaky_vm, leaky_vmi, leaky_pod, leaky_node])
def test_no_secret_leaves(leaky):
    document = leaky()
    assert SECRET in yaml.safe_dump(document)
    assert SECRET not in yaml.safe_dump(trimmed(document))


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap", "ServiceAccount"])
def test_kinds_that_are_not_named_are_not_taken(kind):
    assert trimmed({"kind": kind, "metadata": meta("x"), "data": {"a": SECRET}}) is None
    assert kind not in SOURCES


@pytest.mark.parametrize(
    "line",
    [
        f"Authorization: Bearer {SECRET}",
        f'{{"token": "{SECRET}"}}',
        f"password={SECRET}",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0." + SECRET,
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_logs_are_redacted(line):
    assert SECRET not in redacted(f"before {line} after")


def test_ordinary_lines_of_a_log_stay():
    line = "2026-11-21 INFO matrix payments: device a09bfa3e is Ready on lnx1, key AES CUR 0x0011223344556677"
    assert redacted(line) == line


def test_namespaces_of_others_are_not_named(tmp_path):
    other = {"kind": "Namespace", "metadata": meta("merger-with-acme")}
    path, members = archive(tmp_path, documents([other]))
    assert not [name for name in members if "acme" in name]
    assert "objects/namespaces/bank.yaml" in everything(path)


def test_nothing_is_overwritten(tmp_path):
    path, _ = archive(tmp_path, documents())
    before = path.read_bytes()
    with pytest.raises(Stop, match="exists already") as caught:
        archive(tmp_path, documents())
    assert (caught.value.exit_code, path.read_bytes()) == (2, before)


def test_names_stay_in_their_folder(tmp_path):
    hostile = node("../../../etc/passwd")
    _, members = archive(tmp_path, documents([hostile]))
    assert not [name for name in members if ".." in name.split("/")]
