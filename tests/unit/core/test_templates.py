"""A VM that runs with another matrix than its template asks for must be restarted, and is told."""

import pytest

from vfio_ap.fleet.evacuation import VmView
from vfio_ap.fleet.templates import TemplateView, restart_needed


def template(matrix, *, running=True):
    return TemplateView("bank", "ledger", "u1", matrix, running)


def instance(matrix):
    return VmView("bank", "ledger", "u2", matrix, "n1") if matrix else None


@pytest.mark.parametrize(
    ("wants", "has", "words"),
    [
        ("pay", "", "asks for matrix pay, and it runs without one"),
        ("pay", "old", "asks for matrix pay, and it runs with matrix old"),
        ("", "old", "asks for no matrix, and it runs with matrix old"),
    ],
)
def test_a_difference_needs_a_restart(wants, has, words):
    refusal = restart_needed(template(wants), instance(has))
    assert words in refusal.message
    assert refusal.remedy == "virtctl restart ledger -n bank"


@pytest.mark.parametrize("matrix", ["pay", ""])
def test_what_runs_as_asked_for_needs_none(matrix):
    assert restart_needed(template(matrix), instance(matrix)) is None


def test_a_vm_that_does_not_run_needs_none():
    assert restart_needed(template("pay", running=False), None) is None
