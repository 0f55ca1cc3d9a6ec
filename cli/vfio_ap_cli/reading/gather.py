"""Collects a must-gather: objects, logs and the pages of this program, in one archive with readable names.

What cannot be had is noted in the archive and never stops the rest. Secrets are not asked for; see ``trim``.
"""

from __future__ import annotations

import datetime
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from vfio_ap_cli.exits import MISUSE, NO, Stop
from vfio_ap_cli.reading import cluster
from vfio_ap_cli.reading.documents import SOURCES, Document, Documents
from vfio_ap_cli.reading.files import META
from vfio_ap_cli.reading.trim import redacted, related, trimmed
from vfio_ap_kube.client import PODS, ApiError, Client
from vfio_ap_kube.snapshot.names import MATRIX

_LOG_LINES = 20_000
_SILENCE = 20.0
Say = Callable[[str], None]


async def collect(client: Client, server: str, say: Say) -> tuple[Documents, dict[str, str]]:
    """Return the trimmed objects, and logs by ``pod/container``. Raises ApiError when the server is away."""
    say(f"reading {len(SOURCES)} kinds of objects")
    documents = await cluster.read(client, server, SOURCES)
    try:
        system = (await client.listing(PODS.within(documents.system))).get("items") or []
    except ApiError as error:
        say(f"pods of {documents.system}: {error}")
        system = []
    system = [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in system]
    kinds = {**documents.kinds, "Pod": (*documents.of("Pod"), *system)}
    kept = selected(replace(documents, kinds=kinds))
    for kind, why in kept.missing.items():
        say(f"{kind} not read: {why}")
    return kept, await _logs(client, documents.system, system, say)


def selected(documents: Documents) -> Documents:
    """Return the objects that have to do with the product, without what must not leave the cluster."""
    guests = {
        (str(d["metadata"].get("namespace") or ""), str(d["metadata"]["name"]))
        for kind in ("VirtualMachine", "VirtualMachineInstance")
        for d in documents.of(kind)
        if kind == "VirtualMachineInstance" or MATRIX in _asked(d)
    }
    spaces = {documents.system, *(space for space, _ in guests)}
    for matrix in documents.of("APMatrix"):
        spaces.update(map(str, (matrix.get("spec") or {}).get("allowedNamespaces") or []))
    found: dict[str, tuple[Document, ...]] = {}
    for kind, items in documents.kinds.items():
        kept = (trimmed(item) for item in related(kind, items, guests, spaces))
        found[kind] = tuple(item for item in kept if item is not None)
    return replace(documents, kinds=found)


def _asked(vm: Document) -> Mapping[str, str]:
    template = (vm.get("spec") or {}).get("template") or {}
    return (template.get("metadata") or {}).get("annotations") or {}


async def _logs(client: Client, system: str, pods: list[Document], say: Say) -> dict[str, str]:
    """Return the logs of the product's pods, the previous run's too where a container was restarted."""
    logs: dict[str, str] = {}
    for number, pod in enumerate(pods, 1):
        name = pod["metadata"]["name"]
        say(f"log {number} of {len(pods)}: {name}")
        restarted = {
            status["name"]
            for status in (pod.get("status") or {}).get("containerStatuses") or []
            if status.get("restartCount")
        }
        for container in (pod.get("spec") or {}).get("containers") or []:
            for previous in (False, True) if container["name"] in restarted else (False,):
                suffix = ".previous" if previous else ""
                logs[f"{name}/{container['name']}{suffix}"] = await _log(
                    client, system, name, container["name"], previous=previous
                )
    return logs


async def _log(client: Client, namespace: str, pod: str, container: str, *, previous: bool) -> str:
    query = {"container": container, "tailLines": str(_LOG_LINES), "timestamps": "true"}
    if previous:
        query["previous"] = "true"
    lines: list[bytes] = []
    try:
        async for line in client.lines(PODS.within(namespace).path(pod, "log"), query, silence=_SILENCE):
            lines.append(line)
    except ApiError as error:
        lines.append(f"[not read: {error}]".encode())
    return redacted(b"\n".join(lines).decode(errors="replace")) + "\n"


def write(
    path: Path, documents: Documents, logs: Mapping[str, str], pages: Mapping[str, str], version: str
) -> list[str]:
    """Write the archive and return its members. Raises Stop when the file exists or cannot be written."""
    made = documents.now or datetime.datetime.now(datetime.UTC)
    root = f"must-gather-{made:%Y%m%dT%H%M%SZ}"
    members = {
        f"{root}/README.txt": _readme(documents, version),
        f"{root}/{META}": _meta(documents, made, version),
    }
    members |= {f"{root}/pages/{name}.txt": text for name, text in pages.items()}
    for kind, items in documents.kinds.items():
        plural = SOURCES[kind].plural
        for item in items:
            metadata = item["metadata"]
            place = "/".join(_safe(part) for part in (metadata.get("namespace"), metadata["name"]) if part)
            text = yaml.safe_dump(item, sort_keys=False, allow_unicode=True, width=10**6)
            members[f"{root}/objects/{plural}/{place}.yaml"] = text
    members |= {f"{root}/logs/{_safe(name, '/')}.log": text for name, text in logs.items()}
    try:
        # Never over a file that is there, and not for others to read
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in members.items():
                data = text.encode()
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.mode = len(data), int(made.timestamp()), 0o600
                archive.addfile(member, io.BytesIO(data))
    except FileExistsError:
        raise taken(path) from None
    except OSError as error:
        raise Stop(NO, f"{path} cannot be written: {error.strerror}", "name another file with -o") from None
    return list(members)


def taken(path: Path) -> Stop:
    """Return the end of a command that would overwrite something."""
    return Stop(MISUSE, f"{path} exists already", "name another file with -o")


def _safe(name: str, also: str = "") -> str:
    """Return a name that stays within its folder."""
    return "".join(c if c.isalnum() or c in "-_." + also else "_" for c in name).lstrip(".") or "_"


def _meta(documents: Documents, made: datetime.datetime, version: str) -> str:
    return yaml.safe_dump(
        {
            "kind": "MustGather",
            "made": made.isoformat(timespec="seconds"),
            "by": f"kubectl-ap {version}",
            "server": documents.where,
            "version": documents.version,
            "system": documents.system,
            "unread": dict(documents.missing),
            "unserved": sorted(documents.unserved),
        },
        sort_keys=False,
    )


def _readme(documents: Documents, version: str) -> str:
    counts = "\n".join(
        f"  {len(items):>6}  objects/{SOURCES[kind].plural}" for kind, items in documents.kinds.items() if items
    )
    unread = "\n".join(f"  {kind}: {why}" for kind, why in documents.missing.items()) or "  nothing"
    return f"""A picture of the crypto adapters of {documents.where}, made by kubectl-ap {version}.

  pages/    what kubectl ap showed at that moment
  objects/  objects as YAML, trimmed: no Secrets, no ConfigMaps, no volumes, environments or cloud-init data
  logs/     of operator and agents, the last {_LOG_LINES} lines of each

Every command of kubectl ap that has the option --snapshot reads this archive.

Objects:
{counts}

Not read:
{unread}
"""
