"""A pod's status as the kubelet writes it, from what its containers are. A function from data to data.

After pkg/kubelet/kubelet_pods.go and status/generate.go of Kubernetes 1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from vfio_ap_sim.kubelet.containers import View

Document = dict[str, Any]


def phase(pod: Document, init: Mapping[str, View], main: Mapping[str, View]) -> str:
    """Return the pod's phase."""
    policy = {c["name"]: c.get("restartPolicy") for c in pod["spec"].get("initContainers", ())}
    if any(view.final and view.exit_code for name, view in init.items() if policy[name] != "Always"):
        return "Failed"
    if any(not _initialised(view, policy[name]) for name, view in init.items()):
        return "Pending"
    if all(view.final for view in main.values()):
        return "Failed" if any(view.exit_code for view in main.values()) else "Succeeded"
    if all("waiting" in view.state and not view.last_state for view in main.values()):
        return "Pending"
    return "Running"


def status(
    pod: Document, init: Mapping[str, View], main: Mapping[str, View], *, address: str, began: str, now: str
) -> Document:
    """Return the status to write; ``pod`` is the newest state read, ``began`` when the kubelet saw it first."""
    current = phase(pod, init, main)
    return {
        "observedGeneration": pod["metadata"].get("generation", 0),
        "phase": current,
        "hostIP": address,
        "hostIPs": [{"ip": address}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": began,
        "conditions": _dated(pod, _conditions(pod, current, init, main), now),
        "initContainerStatuses": _containers(pod, pod["spec"].get("initContainers", ()), init),
        "containerStatuses": _containers(pod, pod["spec"]["containers"], main),
        "qosClass": pod.get("status", {}).get("qosClass", "BestEffort"),
    }


def rejection(pod: Document, reason: str, message: str, began: str) -> Document:
    """Return the status of a pod that the node does not admit."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": began,
        "qosClass": pod.get("status", {}).get("qosClass", "BestEffort"),
    }


def _initialised(view: View, policy: str | None) -> bool:
    if policy == "Always":
        return view.started or view.final
    return view.final


def _conditions(
    pod: Document, current: str, init: Mapping[str, View], main: Mapping[str, View]
) -> list[dict[str, str]]:
    spec = pod["spec"]
    policy = {c["name"]: c.get("restartPolicy") for c in spec.get("initContainers", ())}
    waiting = [name for name, view in init.items() if not _initialised(view, policy[name])]
    sidecars = {name: view for name, view in init.items() if policy[name] == "Always"}
    unready = [name for name, view in {**sidecars, **main}.items() if not view.ready]
    containers: tuple[bool, str, str] = (True, "", "")
    if current in ("Succeeded", "Failed"):
        containers = (False, "PodCompleted" if current == "Succeeded" else "PodFailed", "")
    elif unready:
        containers = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    found = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    gates = [g["conditionType"] for g in spec.get("readinessGates", ()) if found.get(g["conditionType"]) != "True"]
    ready = containers
    if containers[0] and gates:
        unmet = (f'the status of pod readiness gate "{g}" is not "True", but {found.get(g)}' for g in gates)
        ready = (False, "ReadinessGatesNotReady", "; ".join(unmet))
    initialised: tuple[bool, str, str] = (True, "", "")
    if waiting and current == "Pending":
        said = f"containers with incomplete status: [{' '.join(waiting)}]"
        initialised = (False, "ContainersNotInitialized", said)
    rows = {
        "PodReadyToStartContainers": (current not in ("Succeeded", "Failed"), "", ""),
        "Initialized": initialised,
        "Ready": ready,
        "ContainersReady": containers,
        "PodScheduled": (True, "", ""),
    }
    return [
        {"type": kind, "status": str(good), "reason": reason, "message": message}
        for kind, (good, reason, message) in rows.items()
    ]


def _dated(pod: Document, conditions: Sequence[dict[str, str]], now: str) -> list[dict[str, str | None]]:
    before = {c["type"]: c for c in pod.get("status", {}).get("conditions", ())}
    return [
        {
            "type": c["type"],
            "status": c["status"],
            # A strategic merge keeps what is not named: say that there is none.
            "reason": c["reason"] or None,
            "message": c["message"] or None,
            "lastTransitionTime": before[c["type"]]["lastTransitionTime"]
            if before.get(c["type"], {}).get("status") == c["status"]
            else now,
        }
        for c in conditions
    ]


def _containers(pod: Document, specs: Sequence[Document], views: Mapping[str, View]) -> list[Document]:
    return [
        {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": _image_id(spec["image"]),
            "containerID": f"played://{pod['metadata']['uid']}/{spec['name']}/{view.restarts}",
            "state": view.state,
            "lastState": view.last_state,
            "ready": view.ready,
            "started": view.started,
            "restartCount": view.restarts,
        }
        for spec in specs
        if (view := views.get(spec["name"])) is not None
    ]


def _image_id(image: str) -> str:
    """Return the image by digest, as container runtimes do; KubeVirt moves a container disk by nothing else.

    It is made up of the image's name: there is no image.
    """
    if "@" in image:
        return image
    folder, slash, name = image.rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
