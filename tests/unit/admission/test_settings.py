"""What the chart tells the webhook."""

import pytest

from vfio_ap_operator.admission.settings import WebhookSettings

GIVEN = {
    "WEBHOOK_PORT": "9443",
    "WEBHOOK_CERTIFICATE": "/certificate",
    "SIDECAR_IMAGE": "hook:1",
    "EVICTION_STRATEGY": "External",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


def test_the_variables_are_taken():
    found = WebhookSettings.from_environment()
    assert (found.port, str(found.certificate), found.sidecar.image) == (9443, "/certificate", "hook:1")
    assert found.strategy == "External"


def test_without_a_port_there_is_no_webhook(monkeypatch):
    monkeypatch.setenv("WEBHOOK_PORT", "")
    assert WebhookSettings.from_environment() is None


def test_an_empty_strategy_leaves_that_of_the_vms(monkeypatch):
    monkeypatch.setenv("EVICTION_STRATEGY", "")
    assert WebhookSettings.from_environment().strategy is None


@pytest.mark.parametrize("name", ["WEBHOOK_CERTIFICATE", "SIDECAR_IMAGE"])
def test_what_is_missing_is_named(monkeypatch, name):
    monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=name):
        WebhookSettings.from_environment()
