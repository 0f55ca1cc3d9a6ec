"""A pod's volumes as folders of this machine: emptyDir, downwardAPI, configMap and secret.

There are no mounts: a process finds them below its pod's folder, through the placeholders ``{pod}`` and
``{mount:PATH}`` in ``extra_env``. Other kinds of volumes are left out. Downward API files follow the pod's labels
and annotations.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfio_ap_kube.client import ApiError, Client, Resource
from vfio_ap_sim.kubelet.environment import field_value

Document = dict[str, Any]


async def prepare(client: Client, pod: Document, folder: Path, address: str) -> None:
    """Make each volume as ``folder/<name>``.

    Raises:
        ApiError: a ConfigMap or Secret that is not optional cannot be read.
        ConfigError: a downward API path is unknown.
    """
    for volume in pod["spec"].get("volumes", ()):
        for source in _sources(volume):
            if "emptyDir" in source:
                (folder / volume["name"]).mkdir(parents=True, exist_ok=True)
            for kind, plural, name in (("configMap", "configmaps", "name"), ("secret", "secrets", "secretName")):
                if kind in source:
                    wanted = source[kind]
                    files = await _read(client, pod, plural, wanted.get(name) or wanted.get("name"), wanted)
                    _write(folder / volume["name"], files)
    refresh(pod, folder, address)


def refresh(pod: Document, folder: Path, address: str) -> None:
    """Write the downward API's files as the pod is now."""
    for volume in pod["spec"].get("volumes", ()):
        for source in _sources(volume):
            items = source.get("downwardAPI", {}).get("items", ())
            files = {
                item["path"]: field_value(pod, item["fieldRef"]["fieldPath"], address).encode()
                for item in items
                if "fieldRef" in item
            }
            if files:
                _write(folder / volume["name"], files)


def mounted(container: Document, path: str) -> str | None:
    """Return what stands for the container's mount at ``path``, from the pod's folder; None where it has none.

    From the pod's folder, in which its processes start: a whole path is too long for a unix socket.
    """
    for mount in container.get("volumeMounts", ()):
        if mount["mountPath"] == path:
            return "/".join(part for part in ("volumes", mount["name"], mount.get("subPath", "")) if part)
    return None


def make_sub_paths(container: Document, folder: Path) -> None:
    """Make the folders that the container's mounts name by ``subPath``, unless there is such a file or folder."""
    for mount in container.get("volumeMounts", ()):
        if (sub_path := mount.get("subPath")) and not (folder / mount["name"] / sub_path).exists():
            (folder / mount["name"] / sub_path).mkdir(parents=True)


def _sources(volume: Document) -> list[Document]:
    if "projected" in volume:
        return list(volume["projected"].get("sources", ()))
    return [volume]


async def _read(client: Client, pod: Document, plural: str, name: str, wanted: Document) -> Mapping[str, bytes]:
    namespace = pod["metadata"]["namespace"]
    try:
        found = await client.get(Resource("v1", plural, namespace), name)
    except ApiError as error:
        if error.not_found and wanted.get("optional"):
            return {}
        raise
    decode = base64.b64decode if plural == "secrets" else str.encode
    data = {key: decode(value) for key, value in found.get("data", {}).items()}
    data |= {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}
    if "items" in wanted:
        return {item["path"]: data[item["key"]] for item in wanted["items"]}
    return data


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        if path.exists() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(data)
        new.replace(path)
