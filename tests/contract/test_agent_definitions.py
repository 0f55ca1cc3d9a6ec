"""The real mdevctl reads, starts and stops what the agent persists on a plain host; the agent then agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .namespace import shell

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
DESIRED = f"""
mdevs:
  - {{uuid: {A}, matrix: payments, adapters: "5", domains: "4,0xab", controlDomains: "4"}}
  - {{uuid: {B}, matrix: ledger, adapters: "6", domains: "6"}}
"""
PERSISTED = """
mkdir -p etc/scripts.d/callouts etc/scripts.d/notifiers
mount --bind etc /etc/mdevctl.d
B=bbbbbbbb-0000-4000-8000-000000000002
agent() { "$PYTHON" -m vfio_ap_agent.cli "$@" --state-dir state --lock-file none; }
agent apply --desired desired.yaml --persist -o json > applied; echo "applied $?"
"""
pytestmark = pytest.mark.skipif(
    shutil.which("mdevctl") is None or not Path("/etc/mdevctl.d").is_dir(),
    reason="no mdevctl here (Debian package mdevctl)",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "desired.yaml").write_text(DESIRED)
    return tmp_path


def test_mdevctl_lists_what_the_agent_persists_as_defined_for_autostart_and_active(folder):
    said = shell(folder, PERSISTED + "mdevctl list --defined --dumpjson; mdevctl list --defined; mdevctl list")
    assert "applied 0\n" in said
    document = json.loads(said[said.index("[") : said.rindex("]") + 1])
    (found,) = (document[0]["matrix"][0][A],)
    assert found == {
        "mdev_type": "vfio_ap-passthrough",
        "start": "auto",
        "attrs": [
            {"assign_adapter": "5"},
            {"assign_domain": "4"},
            {"assign_domain": "171"},
            {"assign_control_domain": "4"},
        ],
    }
    for uuid in (A, B):
        assert f"{uuid} matrix vfio_ap-passthrough auto (active)" in said
        assert (
            f"{uuid} matrix vfio_ap-passthrough (defined)" in said
            or f"{uuid} matrix vfio_ap-passthrough auto" in said
        )


def test_what_mdevctl_starts_when_vfio_ap_registers_is_what_the_agent_made(folder):
    """As at a boot: the masks are set (chzdev's rule), vfio_ap registers, mdevctl starts the definitions."""
    said = shell(
        folder,
        PERSISTED
        + """
        cat $MDEV/$A/ap_config $MDEV/$B/ap_config > before
        for uuid in $A $B; do mdevctl stop --uuid $uuid || echo "not stopped"; done
        ls $MDEV
        mdevctl start-parent-mdevs matrix
        cat $MDEV/$A/ap_config $MDEV/$B/ap_config | cmp - before && echo same
        agent apply --desired desired.yaml; echo "agent $?"
        """,
    )
    assert "not stopped" not in said
    assert "\nsame\n" in said, said
    assert "nothing was to be done" in said
    assert said.endswith("agent 0\n")


def test_a_device_that_is_not_wished_for_any_more_is_not_started_again(folder):
    said = shell(
        folder,
        PERSISTED
        + """
        sed -i /ledger/d desired.yaml
        mdevctl stop --uuid $B  # in a namespace of users the agent cannot prove it idle
        agent apply --desired desired.yaml --persist > /dev/null 2>&1
        mdevctl list --defined
        """,
    )
    assert A in said
    assert B not in said


def test_a_definition_that_the_host_is_not_ready_for_starts_nothing_and_takes_nothing(folder):
    """Without persistent masks the queues are the host's at the next boot (T-5)."""
    said = shell(
        folder,
        PERSISTED
        + """
        for uuid in $A $B; do mdevctl stop --uuid $uuid; done
        echo +0-255 > $BUS/apmask; echo +0-255 > $BUS/aqmask
        mdevctl start --uuid $A; echo "start $?"; ls $MDEV
        agent apply --desired desired.yaml; echo "agent $?"
        """,
    )
    assert "Cannot assign requested address (os error 99)" in said
    assert "start 1\n" in said
    assert said.endswith("agent 0\n")
