"""The real mdevctl on a mounted machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .namespace import shell

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
DEFINITIONS = """
mkdir -p etc/scripts.d/callouts etc/scripts.d/notifiers
mount --bind etc /etc/mdevctl.d
B=bbbbbbbb-0000-4000-8000-000000000002
define() { mdevctl define --uuid $1 --parent matrix --type vfio_ap-passthrough --auto; }
attribute() { mdevctl modify --uuid $1 --addattr $2 --value $3; }
echo -5,-6 > $BUS/apmask
define $A; attribute $A assign_adapter 5; attribute $A assign_domain 0x06
"""
pytestmark = pytest.mark.skipif(
    shutil.which("mdevctl") is None or not Path("/etc/mdevctl.d").is_dir(),
    reason="no mdevctl here (Debian package mdevctl)",
)


def test_types_and_the_life_of_an_mdev(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        DEFINITIONS
        + """
        mdevctl types; mdevctl list
        mdevctl start --uuid $A; echo "start $?"
        mdevctl list --dumpjson; cat $MDEV/$A/matrix; mdevctl list --defined
        mdevctl stop --uuid $A; echo "stop $?"; ls $MDEV
        """,
    )
    assert "Available instances: 65536" in said
    assert "start 0\n" in said and "stop 0\n" in said
    assert "\n05.0006\n" in said
    active = json.loads(said[said.index("[") : said.rindex("]") + 1])
    assert list(active[0]["matrix"][0]) == [A]
    assert said.endswith("stop 0\n"), "nothing is left of it"


def test_started_by_its_parent_as_udev_does(tmp_path: Path) -> None:
    said = shell(tmp_path, DEFINITIONS + "mdevctl start-parent-mdevs matrix; cat $MDEV/$A/matrix")
    assert said.endswith("05.0006\n")


def test_what_the_kernel_refuses_is_told_and_undone(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        DEFINITIONS
        + """
        define $B; attribute $B assign_adapter 5; attribute $B assign_domain 6
        mdevctl start --uuid $A
        mdevctl start --uuid $B; echo "shared $?"
        mdevctl start --uuid $A; echo "twice $?"
        mdevctl stop --uuid $B; echo "stopped $?"
        attribute $B assign_adapter 4
        mdevctl stop --uuid $A
        mdevctl start --uuid $B; echo "reserved $?"
        ls $MDEV; ctl klog | grep -c 'already assigned to'
        """,
    )
    assert "Address already in use (os error 98)" in said
    assert "Cannot assign requested address (os error 99)" in said
    assert all(f"{what} 1\n" in said for what in ("shared", "twice", "stopped", "reserved"))
    assert said.endswith("reserved 1\n1\n"), "no mdev is left, one line was logged"
