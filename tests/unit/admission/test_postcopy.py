"""Post-copy is turned off for VMs with a matrix, and for no other."""

import pytest

from vfio_ap_operator.admission.postcopy import postcopy_patch

OURS = {"annotations": {"ap.s390x.io/matrix": "payments"}}
WANTED = {"migrationState": {"migrationConfiguration": {"allowPostCopy": True}}}
PATH = "/status/migrationState/migrationConfiguration/allowPostCopy"


def test_it_is_turned_off():
    assert postcopy_patch({"metadata": OURS, "status": WANTED}) == [{"op": "add", "path": PATH, "value": False}]


@pytest.mark.parametrize(
    "vmi",
    [
        {"metadata": OURS},
        {"metadata": OURS, "status": {"migrationState": {}}},
        {"metadata": OURS, "status": {"migrationState": {"migrationConfiguration": {"allowPostCopy": False}}}},
        {"metadata": {}, "status": WANTED},
        {"metadata": {"annotations": {"team": "red"}}, "status": WANTED},
    ],
    ids=str,
)
def test_nothing_else_is_touched(vmi):
    assert postcopy_patch(vmi) == []
