"""Which cluster is meant, and what is said when it is not clear or not there."""

import json
import socket
import stat

import pytest
import yaml

from vfio_ap_cli.exits import Stop
from vfio_ap_cli.reading.kubeconfig import target


def config(path, name="one", server="http://one:1", namespace="bank", current=None, **user):
    document = {
        "current-context": name if current is None else current,
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_context_and_namespace(tmp_path, monkeypatch):
    one, two = (
        config(tmp_path / "1", token="t1"),
        config(tmp_path / "2", "two", "http://two:2", "shop", token="t2"),
    )
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}")
    found = target("", "")
    assert (found.credentials.server, found.namespace) == ("http://one:1", "bank")
    found = target("", "two")
    assert (found.credentials.server, found.namespace) == ("http://two:2", "shop")
    assert found.credentials.headers() == {"Authorization": "Bearer t2"}


def test_a_context_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(Stop, match="no context 'three'") as caught:
        target(str(config(tmp_path / "1")), "three")
    assert (caught.value.exit_code, caught.value.remedy) == (3, "it has: one")


def test_a_token_file_is_relative_to_its_kubeconfig(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    found = target(str(config(tmp_path / "1", tokenFile="token")), "")
    assert found.credentials.headers() == {"Authorization": "Bearer secret"}


def test_a_log_in_program_is_asked(tmp_path):
    program = tmp_path / "login"
    answer = {"kind": "ExecCredential", "status": {"token": "from-$KUBERNETES_EXEC_INFO"}}
    program.write_text(
        f"#!/bin/sh\nread x </dev/null; cat <<X\n{json.dumps(answer)}\nX\n".replace(
            "$KUBERNETES_EXEC_INFO", "login"
        )
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    found = target(str(config(tmp_path / "1", exec={"command": str(program)})), "")
    assert found.credentials.headers() == {"Authorization": "Bearer from-login"}


def test_a_log_in_program_that_fails_is_said(tmp_path):
    with pytest.raises(Stop, match="gave no credentials") as caught:
        target(str(config(tmp_path / "1", exec={"command": "false", "installHint": "install it"})), "")
    assert (caught.value.exit_code, caught.value.remedy) == (3, "install it")


@pytest.mark.parametrize("text", ["", "a: [", "just text", "clusters: 3"])
def test_a_kubeconfig_of_nonsense(tmp_path, text):
    (tmp_path / "1").write_text(text)
    with pytest.raises(Stop) as caught:
        target(str(tmp_path / "1"), "")
    assert caught.value.exit_code == 3


def test_no_cluster_is_exit_code_3(ap, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = ap([], "nodes", "--kubeconfig", str(config(tmp_path / "1", server=server)))
    assert done.exit_code == 3
    assert "cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_misuse_is_exit_code_2(ap):
    assert ap([], "nodes", "--nonsense").exit_code == 2
    assert ap([], "nosuch").exit_code == 2
    assert ap([], "nodes", "--snapshot", "/does/not/exist").exit_code == 2
