"""Volumes become files below the pod's folder."""

import base64
from pathlib import Path

import pytest

from vfio_ap_kube.client import ApiError, Resource
from vfio_ap_sim.kubelet import volumes


class Api:
    async def get(self, resource: Resource, name: str) -> dict:
        assert resource.namespace == "ap"
        if (resource.plural, name) == ("configmaps", "settings"):
            return {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\xff").decode()}}
        if (resource.plural, name) == ("secrets", "tls"):
            return {"data": {"tls.key": base64.b64encode(b"key").decode()}}
        raise ApiError(404, "NotFound", "no such thing")


def pod(*specs: dict) -> dict:
    return {
        "metadata": {"name": "n", "namespace": "ap", "uid": "u", "annotations": {"hold": "yes"}},
        "spec": {"nodeName": "z", "volumes": [*specs]},
    }


async def prepare(folder: Path, *specs: dict) -> dict[str, bytes]:
    await volumes.prepare(Api(), pod(*specs), folder, "127.0.0.1")  # type: ignore[arg-type]
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_config_maps_and_secrets(tmp_path: Path):
    found = await prepare(
        tmp_path,
        {"name": "conf", "configMap": {"name": "settings"}},
        {"name": "one", "configMap": {"name": "settings", "items": [{"key": "b", "path": "deep/b.txt"}]}},
        {"name": "cert", "secret": {"secretName": "tls"}},
        {
            "name": "all",
            "projected": {"sources": [{"secret": {"name": "tls"}}, {"configMap": {"name": "settings"}}]},
        },
    )
    assert found == {
        "conf/a": b"1",
        "conf/b": b"2",
        "conf/c": b"\xff",
        "one/deep/b.txt": b"2",
        "cert/tls.key": b"key",
        "all/tls.key": b"key",
        "all/a": b"1",
        "all/b": b"2",
        "all/c": b"\xff",
    }


async def test_what_is_missing_is_an_error_unless_optional(tmp_path: Path):
    with pytest.raises(ApiError):
        await prepare(tmp_path, {"name": "x", "configMap": {"name": "none"}})
    assert await prepare(tmp_path, {"name": "x", "configMap": {"name": "none", "optional": True}}) == {}


async def test_an_empty_dir_is_there(tmp_path: Path):
    await prepare(tmp_path, {"name": "scratch", "emptyDir": {}})
    assert (tmp_path / "scratch").is_dir()


async def test_downward_api_files_follow_the_pod(tmp_path: Path):
    item = {"path": "hold", "fieldRef": {"fieldPath": "metadata.annotations['hold']"}}
    spec = {"name": "info", "downwardAPI": {"items": [item]}}
    assert await prepare(tmp_path, spec) == {"info/hold": b"yes"}
    changed = pod(spec)
    changed["metadata"]["annotations"]["hold"] = "no"
    volumes.refresh(changed, tmp_path, "127.0.0.1")
    assert (tmp_path / "info/hold").read_bytes() == b"no"


SIDECAR = {
    "volumeMounts": [
        {"name": "sockets", "mountPath": "/var/run/hooks", "subPath": "sidecar-0"},
        {"name": "conf", "mountPath": "/etc/conf"},
    ]
}


@pytest.mark.parametrize(
    ("path", "place"),
    [("/var/run/hooks", "volumes/sockets/sidecar-0"), ("/etc/conf", "volumes/conf"), ("/var/run", None)],
)
def test_a_mount_is_a_place_below_the_pods_folder(path: str, place: str | None):
    assert volumes.mounted(SIDECAR, path) == place


def test_a_sub_path_is_made_unless_it_is_there(tmp_path: Path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/a").write_text("1")
    file = {"name": "conf", "mountPath": "/etc/a", "subPath": "a"}
    volumes.make_sub_paths({"volumeMounts": [*SIDECAR["volumeMounts"], file]}, tmp_path)
    assert (tmp_path / "sockets/sidecar-0").is_dir()
    assert (tmp_path / "conf/a").read_text() == "1"
