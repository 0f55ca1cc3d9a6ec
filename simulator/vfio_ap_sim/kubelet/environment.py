"""A container's command line and environment, from the pod's specification. Functions from data to data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_MOUNT = re.compile(r"\{mount:([^}]+)\}")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")

Document = dict[str, Any]


class ConfigError(Exception):
    """The container cannot be made from its specification; reason and text go into the pod's status."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


def image_repository(image: str) -> str:
    """Return an image's name without tag and digest.

    >>> image_repository("registry:5000/ap/agent:v1@sha256:00")
    'registry:5000/ap/agent'
    """
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown names stay, ``$$`` is ``$``."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def field_value(pod: Document, path: str, address: str) -> str:
    """Return what the downward API says for a ``fieldPath``.

    Raises:
        ConfigError: the path is not one that the API knows.
    """
    meta, spec = pod["metadata"], pod["spec"]
    values = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec["nodeName"],
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        **dict.fromkeys(("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"), address),
    }
    if path in values:
        return str(values[path])
    if match := _KEYED.fullmatch(path):
        return str(meta.get(match[1], {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        items = sorted(meta.get(path.removeprefix("metadata."), {}).items())
        return "\n".join(f'{key}="{_quoted(value)}"' for key, value in items)
    raise ConfigError(f"unsupported fieldPath: {path}")


def environment(pod: Document, container: Document, base: Mapping[str, str], address: str) -> dict[str, str]:
    """Return the container's variables over those of ``base``.

    Raises:
        ConfigError: a variable comes from where the played kubelet cannot take it.
    """
    env = dict(base)
    for variable in container.get("env", ()):
        source = variable.get("valueFrom")
        if source is None:
            env[variable["name"]] = expand(variable.get("value", ""), env)
        elif "fieldRef" in source:
            env[variable["name"]] = field_value(pod, source["fieldRef"]["fieldPath"], address)
        else:
            raise ConfigError(f"the played kubelet cannot take {variable['name']} from {', '.join(source)}")
    return env


def fill(variables: Mapping[str, str], folder: str, mounted: Callable[[str], str | None]) -> dict[str, str]:
    """Return the node's own variables with their placeholders filled in.

    ``{pod}`` is the pod's ``folder``, ``{mount:PATH}`` what ``mounted`` returns for that path; where that is None
    the variable is left out.
    """
    filled = {}
    for name, value in variables.items():
        text = value.replace("{pod}", folder)
        places = {path: mounted(path) for path in _MOUNT.findall(text)}
        for path, place in places.items():
            text = text.replace(f"{{mount:{path}}}", place or "")
        if None not in places.values():
            filled[name] = text
    return filled


def command_line(container: Document, prefix: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return what to run: ``prefix`` stands for the image's program, whichever way the pod names it."""
    words = [*container.get("command", ())[1:], *container.get("args", ())]
    return [*prefix, *(expand(word, env) for word in words)]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
