"""VMIs as KubeVirt writes them, and the migration that an evacuation asks for."""

import pytest

from vfio_ap.fleet.moves import MoveStatus, MoveView
from vfio_ap_kube.snapshot.vmis import vm_view
from vfio_ap_operator import requests


def vmi(**status):
    status = {
        "phase": "Running",
        "nodeName": "n1",
        "conditions": [{"type": "LiveMigratable", "status": "True"}],
    } | status
    metadata = {"name": "ledger", "namespace": "bank", "uid": "u1", "annotations": {"ap.s390x.io/matrix": "pay"}}
    return {"metadata": metadata, "status": status}


def test_a_running_vm_is_read():
    view = vm_view(vmi())
    assert (str(view), view.matrix, view.node, view.evacuating, view.migratable) == (
        "bank/ledger",
        "pay",
        "n1",
        False,
        True,
    )


@pytest.mark.parametrize(("mark", "evacuating"), [("n1", True), ("n9", False), ("", False)])
def test_only_the_mark_of_the_node_it_runs_on_counts(mark, evacuating):
    assert vm_view(vmi(evacuationNodeName=mark)).evacuating is evacuating


def test_what_kubevirt_says_against_it_is_kept():
    condition = {"type": "LiveMigratable", "status": "False", "reason": "X", "message": "because"}
    view = vm_view(vmi(conditions=[condition]))
    assert (view.migratable, view.obstacle) == (False, "X: because")
    assert not vm_view(vmi(conditions=[])).migratable


@pytest.mark.parametrize("change", [{"phase": "Scheduling"}, {"nodeName": ""}, {"phase": "Succeeded"}])
def test_a_vm_that_does_not_run_is_none(change):
    assert vm_view(vmi(**change)) is None


def test_the_migration_of_an_evacuation_is_pinned_and_backs_off_as_kubevirts_own():
    move = MoveView("bank", "away", "m1", "ledger", status=MoveStatus(asked_by="evacuation"))
    document = requests.migration(vm_view(vmi(evacuationNodeName="n1")), "host2", move)
    assert document["spec"] == {"vmiName": "ledger", "addedNodeSelector": {"kubernetes.io/hostname": "host2"}}
    assert document["metadata"]["annotations"] == {
        "kubevirt.io/evacuationMigration": "n1",
        "ap.s390x.io/move": "away",
    }
    assert document["metadata"]["namespace"] == "bank"
