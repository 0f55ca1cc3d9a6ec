"""Reads objects from files: a must-gather archive, a folder of YAML, or the files of ``plan -f``.

Every file is hostile: anything that is not an object of Kubernetes is left out or refused with its place, an
archive's members are read and never unpacked, and sizes are bounded.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from vfio_ap_cli.exits import MISUSE, Stop
from vfio_ap_cli.reading.documents import SOURCES, Document, Documents
from vfio_ap_kube.clock import time_of

_LARGEST = 64 << 20
"""Bytes of one file, or of one member of an archive."""
_MOST = 200_000
"""Members of an archive."""
_SUFFIXES = (".yaml", ".yml", ".json")
_NAMESPACED = (
    "APMigration",
    "Event",
    "Lease",
    "Pod",
    "VirtualMachine",
    "VirtualMachineInstance",
    "VirtualMachineInstanceMigration",
)
META = "must-gather.yaml"
"""Name of the member that says when and where an archive was made."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kubernetes reads it, where the two differ: times are text, and so is a number of more than 64 bits.

    kubectl prints a master key's pattern of 128 bits without quotes.
    """


_INT = re.compile(r"[-+]?(?:0b[01_]{1,64}|0[0-7_]*|[1-9][0-9_]{0,18}|0x[0-9a-fA-F_]{1,16})\Z")
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _INT if tag.endswith(":int") else pattern)
        for tag, pattern in resolvers
        if not tag.endswith(":timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def snapshot(name: str) -> Documents:
    """Return what a must-gather archive, a folder or a YAML file has. Raises Stop."""
    path = Path(name)
    if not path.exists():
        raise Stop(MISUSE, f"{name} does not exist", "make one with kubectl ap must-gather")
    texts = _archive(path) if path.is_file() and path.suffix not in _SUFFIXES else _folder(path)
    kinds: dict[str, list[Document]] = {kind: [] for kind in SOURCES}
    meta: Document = {}
    for where, text in texts:
        for document in parsed(text, where):
            if Path(where).name == META and document.get("kind") == "MustGather":
                meta = document
            elif document["kind"] in kinds and document["metadata"].get("name"):
                kinds[document["kind"]].append(document)
    if not any(kinds.values()):
        raise Stop(MISUSE, f"{name} has no object of ours", "make one with kubectl ap must-gather")
    unread = {str(kind): str(why) for kind, why in (meta.get("unread") or {}).items()}
    return Documents(
        kinds={kind: tuple(items) for kind, items in kinds.items() if kind not in unread},
        missing=unread,
        unserved=frozenset(str(kind) for kind in meta.get("unserved") or []),
        now=time_of(meta.get("made")),
        where=name,
        system=str(meta.get("system") or _system(kinds)),
        version=str(meta.get("version") or ""),
    )


def manifests(names: Iterable[str]) -> list[Document]:
    """Return the objects of YAML files and folders; ``-`` is standard input. Raises Stop."""
    found: list[Document] = []
    for name in names:
        if name == "-":
            found += parsed(sys.stdin.read(_LARGEST), "standard input", strict=True)
            continue
        if not Path(name).exists():
            raise Stop(MISUSE, f"{name} does not exist")
        for where, text in _folder(Path(name)):
            found += parsed(text, where, strict=True)
    return found


def parsed(text: str | bytes, where: str, *, strict: bool = False) -> list[Document]:
    """Return the objects of a YAML text, those of Lists one by one; ``strict`` refuses what is none."""
    try:
        loaded = [json.loads(text)] if where.endswith(".json") else list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise Stop(MISUSE, f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, ValueError) as error:
        raise Stop(MISUSE, f"{where} cannot be read: {error}") from None
    found: list[Document] = []
    for document in loaded:
        if document is None:
            continue
        items = document.get("items") if isinstance(document, dict) else None
        if isinstance(items, list) and str(document.get("kind", "")).endswith("List"):
            found += [item for item in items if _is_object(item)]
        elif _is_object(document):
            found.append(document)
        elif strict:
            raise Stop(
                MISUSE, f"{where} has something that is not an object", "give it apiVersion, kind, metadata.name"
            )
    return found


def _is_object(document: object) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        return False
    metadata = document.setdefault("metadata", {})
    if document["kind"] == "MustGather":
        return True
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return False
    parts = [document.get(key) for key in ("spec", "status")]
    parts += [metadata.get(key) for key in ("labels", "annotations")]
    # What every stored object has, and a file may leave out
    metadata.setdefault("uid", f"{document['kind']}/{metadata.get('namespace', '')}/{metadata['name']}")
    if document["kind"] in _NAMESPACED:
        metadata.setdefault("namespace", "default")
    return all(part is None or isinstance(part, dict) for part in parts)


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    # What is no folder is read, whatever it is: a shell's <(...) is a pipe, which has no size to ask for
    folder = path.is_dir()
    files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file()) if folder else [path]
    for file in files:
        try:
            with file.open("rb") as stream:
                text = stream.read(_LARGEST + 1)
        except OSError as error:
            raise Stop(MISUSE, f"{file} cannot be read: {error.strerror}") from None
        if len(text) > _LARGEST:
            raise Stop(MISUSE, f"{file} is larger than {_LARGEST >> 20} MiB")
        yield str(file), text


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for number, member in enumerate(archive):
                if number > _MOST:
                    raise Stop(MISUSE, f"{path} has more than {_MOST} members")
                if not member.isfile() or not member.name.endswith(_SUFFIXES) or member.size > _LARGEST:
                    continue
                stream = archive.extractfile(member)
                if stream is not None:
                    yield member.name, stream.read(_LARGEST)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Stop(
            MISUSE, f"{path} is not a must-gather: {error}", "make one with kubectl ap must-gather"
        ) from None


def _system(kinds: dict[str, list[Document]]) -> str:
    for document in kinds["Deployment"]:
        if document["metadata"]["name"] == "vfio-ap-operator":
            return str(document["metadata"].get("namespace") or "")
    return Documents().system
