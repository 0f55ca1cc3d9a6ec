"""What the webhook adds to pods."""

import pytest

from vfio_ap_operator.admission.pods import pod_patch
from vfio_ap_operator.admission.sidecar import Sidecar

from .test_vmis import applied

OURS = Sidecar("registry.test:5000/vfio-ap-hook:1")


def pod(*images, target=False, **metadata):
    compute = {"name": "compute", "image": "c", "resources": {"limits": {"ap.s390x.io/payments": "1"}}}
    sidecars = [{"name": f"hook-sidecar-{n}", "image": image} for n, image in enumerate(images)]
    labels = {"kubevirt.io/migrationJobUID": "j"} if target else {}
    return {"metadata": {"labels": labels, **metadata}, "spec": {"containers": [compute, *sidecars]}}


def gated(document):
    return applied(document, pod_patch(document, OURS))


def test_a_first_boot_gets_gate_and_label_and_nothing_else():
    document = pod(OURS.image)
    found = gated(document)
    assert found["spec"]["schedulingGates"] == [{"name": "ap.s390x.io/placement"}]
    assert found["metadata"]["labels"] == {"ap.s390x.io/matrix": "payments"}
    assert found["spec"]["containers"] == document["spec"]["containers"]
    assert "annotations" not in found["metadata"]
    assert gated(found) == found


def test_a_target_is_held_by_our_sidecar_wherever_it_stands():
    found = gated(pod("other:1", OURS.image, target=True, annotations={"ap.s390x.io/hold": "lifted"}))
    assert found["metadata"]["annotations"]["ap.s390x.io/hold"] == "held"
    _, other, ours = found["spec"]["containers"]
    assert other == {"name": "hook-sidecar-0", "image": "other:1"}
    assert ours["readinessProbe"]["exec"]["command"] == ["vfio-ap-hook", "ready"]
    mount = {"name": "vfio-ap-hold", "mountPath": "/etc/vfio-ap/hold", "readOnly": True}
    assert ours["volumeMounts"] == [mount]
    assert [volume["name"] for volume in found["spec"]["volumes"]] == ["vfio-ap-hold"]
    assert gated(found) == found


def test_a_volume_of_that_name_that_shows_something_else_does_not_count():
    document = pod(OURS.image, target=True)
    document["spec"]["volumes"] = [{"name": "vfio-ap-hold", "emptyDir": {}}]
    assert len(gated(document)["spec"]["volumes"]) == 2  # the API server refuses that


def test_a_pod_without_a_matrix_is_left_alone():
    document = pod(OURS.image, target=True)
    document["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1"}}
    assert pod_patch(document, OURS) == []


def test_metadata_without_labels_gets_them():
    document = pod()
    del document["metadata"]["labels"]
    assert gated(document)["metadata"]["labels"] == {"ap.s390x.io/matrix": "payments"}


@pytest.mark.parametrize(
    ("image", "is_ours"),
    [
        ("registry.test:5000/vfio-ap-hook:1", True),
        ("registry.test:5000/vfio-ap-hook:2", True),
        ("registry.test:5000/vfio-ap-hook@sha256:0", True),
        ("registry.test:5000/vfio-ap-hook-evil:1", False),
        ("registry.test:5000/vfio-ap-hook/evil:1", False),
        ("vfio-ap-hook:1", False),
        ("", False),
    ],
)
def test_our_image_is_known_in_every_version(image, is_ours):
    assert OURS.runs_in({"image": image}) is is_ours
    assert Sidecar("registry.test:5000/vfio-ap-hook@sha256:1").runs_in({"image": image}) is is_ours
