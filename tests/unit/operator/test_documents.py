"""What the operator writes."""

from vfio_ap.fleet.placement import Standing
from vfio_ap.fleet.summary import summarise
from vfio_ap.fleet.views import Desired, MatrixView
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Matrix
from vfio_ap_api.apmatrix import APMatrixStatus
from vfio_ap_api.apnode import APNodeSpec
from vfio_ap_operator import documents

CONFIG = Matrix(IdSet.of(5, 6), IdSet.of(4, 171))


def test_a_node_spec_is_what_the_agent_reads():
    uuid = "b92c2167-437e-5907-846c-4d29ccba27ff"
    document = documents.node_spec("n1", "uid-1", [Desired(uuid, "pay", CONFIG, granted=True)], frozenset({"m1"}))
    spec = APNodeSpec.model_validate(document["spec"])
    assert spec.mdevs[0].configuration() == CONFIG
    assert document["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_the_assigned_uuid_depends_on_the_object_alone():
    assert documents.assigned_uuid("a") == documents.assigned_uuid("a") != documents.assigned_uuid("b")


def test_the_same_finding_gives_the_same_status_whatever_the_time():
    view = MatrixView("pay", "u1", CONFIG)
    found = [Standing("n1", "Available"), Standing("n2", "Pending", "QueueAbsent", "no adapter 6")]
    summary = summarise(view, None, found)
    first = documents.matrix_status(view, 1, {}, summary, found, "2026-01-01T00:00:00Z")
    again = documents.matrix_status(view, 1, first, summary, found, "2026-01-02T00:00:00Z")
    assert again == first
    assert APMatrixStatus.model_validate(first).ready == "1/2"
    assert [node["name"] for node in first["nodes"]] == ["n2"]


def test_namespace_labels_are_a_difference_and_say_the_uuid():
    patch = documents.namespace_labels({"a": "1", "b": "2", "d": "4"}, {"b": "2", "c": "3", "d": "5"})
    labels = {"use.ap.s390x.io/c": "3", "use.ap.s390x.io/d": "5", "use.ap.s390x.io/a": None}
    assert patch == {"metadata": {"labels": labels}}
    assert documents.namespace_labels({"a": "1"}, {"a": "1"}) == {}
