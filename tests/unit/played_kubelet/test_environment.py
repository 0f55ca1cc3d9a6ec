"""Command lines, variables and image names as Kubernetes makes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_sim.kubelet.environment import (
    ConfigError,
    command_line,
    environment,
    expand,
    field_value,
    fill,
    image_repository,
)

POD = {
    "metadata": {
        "name": "agent-x",
        "namespace": "ap",
        "uid": "u",
        "labels": {"b": "2", "a": 'q"'},
        "annotations": {"ap.s390x.io/hold": "yes"},
    },
    "spec": {"nodeName": "zvm1", "serviceAccountName": "agent"},
}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("agent", "agent"),
        ("agent:v1", "agent"),
        ("quay.io/ap/agent:v1", "quay.io/ap/agent"),
        ("quay.io/ap/agent@sha256:00", "quay.io/ap/agent"),
        ("localhost:5000/agent", "localhost:5000/agent"),
        ("localhost:5000/agent:v1@sha256:00", "localhost:5000/agent"),
    ],
)
def test_an_images_repository(image: str, repository: str):
    assert image_repository(image) == repository


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A $", "$A $"),
        ("$$$(A)", "$1"),
        ("$()", "$()"),
    ],
)
def test_references(text: str, expanded: str):
    assert expand(text, {"A": "1"}) == expanded


@given(st.text(alphabet="ab-/= ."))
def test_text_without_dollars_stays(text: str):
    assert expand(text, {"a": "x"}) == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "agent-x"),
        ("metadata.namespace", "ap"),
        ("metadata.uid", "u"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['ap.s390x.io/hold']", "yes"),
        ("metadata.labels", 'a="q\\""\nb="2"'),
        ("spec.nodeName", "zvm1"),
        ("spec.serviceAccountName", "agent"),
        ("status.hostIP", "127.0.0.1"),
        ("status.podIP", "127.0.0.1"),
    ],
)
def test_fields_of_the_pod(path: str, value: str):
    assert field_value(POD, path, "127.0.0.1") == value


def test_variables_see_those_before_them():
    container = {
        "env": [
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "URL", "value": "http://$(NODE)/$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "EMPTY"},
        ]
    }
    assert environment(POD, container, {"PATH": "p"}, "a") == {
        "PATH": "p",
        "NODE": "zvm1",
        "URL": "http://zvm1/$(LATER)",
        "LATER": "x",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    "source", [{"secretKeyRef": {"name": "s", "key": "k"}}, {"fieldRef": {"fieldPath": "spec.containers"}}]
)
def test_a_variable_that_cannot_be_had_is_said_so(source: dict):
    with pytest.raises(ConfigError):
        environment(POD, {"env": [{"name": "X", "valueFrom": source}]}, {}, "a")


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        ({"args": ["run", "$(N)"]}, ["python", "agent.py", "run", "1"]),
        ({"command": ["vfio-ap-agent", "run"], "args": ["-v"]}, ["python", "agent.py", "run", "-v"]),
        ({}, ["python", "agent.py"]),
    ],
)
def test_the_prefix_stands_for_the_images_program(container: dict, argv: list[str]):
    assert command_line(container, ["python", "agent.py"], {"N": "1"}) == argv


def test_the_nodes_own_variables_name_what_the_container_has_mounted():
    places = {"/var/run/hooks": "volumes/sockets/sidecar-0"}
    variables = {"A": "{pod}/x", "HOOKS": "{mount:/var/run/hooks}", "NONE": "{mount:/etc/conf}", "PLAIN": "1"}
    assert fill(variables, "/pods/p", places.get) == {
        "A": "/pods/p/x",
        "HOOKS": "volumes/sockets/sidecar-0",
        "PLAIN": "1",
    }
