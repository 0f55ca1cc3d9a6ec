"""A pod's phase and conditions follow from its containers."""

import re

import pytest

from vfio_ap_sim.kubelet.containers import View
from vfio_ap_sim.kubelet.podstatus import phase, rejection, status

WAITING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING = {"running": {"startedAt": "t"}}
GOOD = {"terminated": {"exitCode": 0}}
BAD = {"terminated": {"exitCode": 3}}
T0, T1 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def make(init: dict[str, str | None], main: list[str], **spec) -> dict:
    return {
        "metadata": {"uid": "u", "generation": 1},
        "spec": {
            "initContainers": [{"name": n, "image": "i", "restartPolicy": p} for n, p in init.items()],
            "containers": [{"name": n, "image": "i"} for n in main],
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([View(WAITING)], "Pending"),
        ([View(RUNNING), View(WAITING)], "Running"),
        ([View(WAITING, last_state=BAD)], "Running"),
        ([View(BAD)], "Running"),
        ([View(GOOD, final=True), View(RUNNING)], "Running"),
        ([View(GOOD, final=True), View(GOOD, final=True)], "Succeeded"),
        ([View(GOOD, final=True), View(BAD, final=True)], "Failed"),
    ],
)
def test_phase(views: list[View], expected: str):
    names = [f"c{n}" for n in range(len(views))]
    assert phase(make({}, names), {}, dict(zip(names, views, strict=True))) == expected


@pytest.mark.parametrize(
    ("policy", "view", "expected"),
    [
        (None, View(RUNNING, started=True), "Pending"),
        (None, View(GOOD, final=True), "Running"),
        (None, View(BAD, final=True), "Failed"),
        ("Always", View(RUNNING, started=False), "Pending"),
        ("Always", View(RUNNING, started=True), "Running"),
    ],
)
def test_phase_with_an_init_container(policy: str | None, view: View, expected: str):
    assert phase(make({"i": policy}, ["c"]), {"i": view}, {"c": View(RUNNING)}) == expected


def conditions(pod: dict, view: View, now: str = T0, init: dict[str, View] | None = None) -> dict[str, dict]:
    made = status(pod, init or {}, {"c": view}, address="127.0.0.1", began=T0, now=now)
    return {c["type"]: c for c in made["conditions"]}


def test_ready_is_all_containers_ready():
    pod = make({}, ["c"])
    unready = conditions(pod, View(RUNNING))
    assert unready["Ready"]["status"] == unready["ContainersReady"]["status"] == "False"
    assert unready["Ready"]["message"] == "containers with unready status: [c]"
    assert conditions(pod, View(RUNNING, ready=True))["Ready"]["status"] == "True"
    assert conditions(pod, View(GOOD, final=True))["Ready"]["reason"] == "PodCompleted"


def test_a_sidecar_counts_for_readiness_and_a_finished_init_container_does_not():
    view = View(RUNNING, ready=True)
    sidecar = {"i": View(RUNNING, started=True, ready=False)}
    assert conditions(make({"i": "Always"}, ["c"]), view, init=sidecar)["Ready"]["status"] == "False"
    assert (
        conditions(make({"i": None}, ["c"]), view, init={"i": View(GOOD, final=True)})["Ready"]["status"] == "True"
    )


def test_readiness_gates_hold_ready_back():
    pod = make({}, ["c"], readinessGates=[{"conditionType": "kubevirt.io/virtual-machine-unpaused"}])
    held = conditions(pod, View(RUNNING, ready=True))
    assert held["ContainersReady"]["status"] == "True"
    assert (held["Ready"]["status"], held["Ready"]["reason"]) == ("False", "ReadinessGatesNotReady")
    pod["status"] = {"conditions": [{"type": "kubevirt.io/virtual-machine-unpaused", "status": "True"}]}
    assert conditions(pod, View(RUNNING, ready=True))["Ready"]["status"] == "True"


def test_a_condition_keeps_its_time_until_it_turns():
    pod = make({}, ["c"])
    pod["status"] = {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": T0}]}
    assert conditions(pod, View(RUNNING), now=T1)["Ready"]["lastTransitionTime"] == T0
    assert conditions(pod, View(RUNNING, ready=True), now=T1)["Ready"]["lastTransitionTime"] == T1


def test_containers_are_reported_as_they_are():
    view = View(RUNNING, last_state=BAD, restarts=2, ready=True, started=True)
    made = status(make({}, ["c"]), {}, {"c": view}, address="127.0.0.1", began=T0, now=T0)
    (container,) = made["containerStatuses"]
    assert (container["state"], container["lastState"], container["restartCount"]) == (RUNNING, BAD, 2)
    assert container["ready"] and container["started"]


def test_a_rejected_pod_says_why():
    made = rejection(make({}, ["c"]), "UnexpectedAdmissionError", "Allocate failed", T0)
    assert (made["phase"], made["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert made["message"] == "Pod was rejected: Allocate failed"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("host:5000/disks/fedora:43", "host:5000/disks/fedora"),
        ("fedora", "fedora"),
    ],
)
def test_an_image_is_known_by_a_digest_as_of_a_registry(image: str, name: str):
    pod = make({}, ["c"])
    pod["spec"]["containers"][0]["image"] = image
    found = status(pod, {}, {"c": View(RUNNING)}, address="", began=T0, now=T0)["containerStatuses"][0]["imageID"]
    assert re.fullmatch(re.escape(name) + "@sha256:[0-9a-f]{64}", found)
    pod["spec"]["containers"][0]["image"] = found
    again = status(pod, {}, {"c": View(RUNNING)}, address="", began=T0, now=T0)["containerStatuses"][0]["imageID"]
    assert again == found
