"""The API server's account of its requests, as it writes it."""

import json

from vfio_ap_sim.controlplane import audit

EVENT = {
    "kind": "Event",
    "level": "Metadata",
    "stage": "ResponseComplete",
    "verb": "patch",
    "user": {"username": "admin", "groups": ["system:masters"]},
    "objectRef": {"resource": "apnodes", "namespace": "", "name": "lnx1", "subresource": "status"},
    "responseStatus": {"code": 200},
    "requestReceivedTimestamp": "2026-11-21T14:00:00.000250Z",
    "stageTimestamp": "2026-11-21T14:00:00.125250Z",
}


def written(tmp_path, *lines):
    log = tmp_path / "audit.log"
    log.write_text("".join(lines))
    return list(audit.read(log))


def test_a_request_is_read_with_microseconds_and_subresource(tmp_path):
    (request,) = written(tmp_path, json.dumps(EVENT) + "\n")
    assert (request.user, request.verb, request.resource, request.name) == (
        "admin",
        "patch",
        "apnodes/status",
        "lnx1",
    )
    assert request.code == 200
    assert round(request.ended - request.began, 6) == 0.125


def test_whoever_is_impersonated_asks(tmp_path):
    (request,) = written(tmp_path, json.dumps(EVENT | {"impersonatedUser": {"username": "handler"}}) + "\n")
    assert request.user == "handler"


def test_what_is_no_resource_has_an_empty_one(tmp_path):
    bare = {key: value for key, value in EVENT.items() if key not in ("objectRef", "responseStatus")}
    (request,) = written(tmp_path, json.dumps(bare) + "\n")
    assert (request.resource, request.name, request.code) == ("", "", 0)


def test_a_line_in_the_making_is_left_for_later(tmp_path):
    line = json.dumps(EVENT)
    assert len(written(tmp_path, line + "\n", line[:40])) == 1


def test_each_request_is_written_once_when_it_is_over():
    policy = json.loads(audit.POLICY)
    assert policy["rules"] == [{"level": "Metadata"}]
    assert "ResponseComplete" not in policy["omitStages"]
