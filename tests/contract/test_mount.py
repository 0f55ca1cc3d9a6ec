"""Any program on a mounted machine: what shells get to see, and when they wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfio_ap_sim.cli import main

from .namespace import shell

GUEST = """
echo -5 > $BUS/apmask
echo $A > $CREATE
echo 5 > $MDEV/$A/assign_adapter
echo 4 > $MDEV/$A/assign_domain
ctl start-guest vm $A --stubborn
"""


def refusal(line: str) -> str:
    """What a shell says went wrong."""
    return line.rpartition(": ")[2]


def test_s3_files_are_refused_at_open_even_to_root(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        """
        id -u
        stat -c '%a %s' $BUS/apmask $BUS/drivers_probe $BUS/bindings
        cat $BUS/drivers_probe
        echo 1 > $BUS/bindings
        cat $BUS/nothing
        echo 1 > $BUS/nothing
        mkdir $BUS/folder
        rm $BUS/apmask
        echo junk > $BUS/apmask
        echo +5 > $BUS/drivers/vfio_ap/bind
        """,
    ).splitlines()
    assert said[:4] == ["0", "644 4096", "200 4096", "444 4096"]
    assert [refusal(line) for line in said[4:]] == [
        "Permission denied",
        "Permission denied",
        "No such file or directory",
        "Permission denied",
        "Operation not permitted",
        "Operation not permitted",
        "Invalid argument",
        "No such device",
    ]


def test_s4_every_write_is_a_store_of_its_own(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        """
        (echo -5; echo -6) > $BUS/apmask; cat $BUS/apmask
        (printf 0x; printf f) > $BUS/apmask; cat $BUS/apmask
        head -c 5000 /dev/zero | tr '\\0' '\\n' | dd of=$BUS/apmask bs=5000 2>&1 | head -1
        """,
    ).splitlines()
    assert said[0] == "0xf9" + "f" * 62
    assert said[1] == "0xf" + "0" * 63, "the second half alone is a mask, too"
    assert refusal(said[2]) == "Invalid argument", "the first page alone is a store: 65 newlines are no mask"


def test_links_lead_through_the_mount(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        """
        readlink -f $BUS/devices/05.0004/driver
        ls $BUS/devices | wc -l
        find /sys/devices/ap -name 'card*' -type d | sort
        """,
    ).splitlines()
    assert said[0] == "/sys/bus/ap/drivers/cex4queue"
    assert said[1] == "12"
    assert said[2:] == [f"/sys/devices/ap/card{adapter:02x}" for adapter in (4, 5, 6)]


def test_s3_a_file_of_a_device_that_is_gone(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        """
        exec 4< $BUS/devices/05.0004/online
        echo 05.0004 > $BUS/drivers/cex4queue/unbind
        cat <&4
        echo $A > $CREATE; exec 5< $MDEV/$A/ap_config
        echo 1 > $MDEV/$A/remove; echo $A > $CREATE
        cat <&5
        """,
    ).splitlines()
    assert [refusal(line) for line in said] == ["No such device", "No such device"]


def test_b40_b41_remove_in_use_blocks_its_writer_for_good(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        GUEST
        + """
        (echo 1 > $MDEV/$A/remove; echo "removed $?") & WRITER=$!
        until [ ! -e $MDEV/$A ]; do :; done
        ls $MATRIX/$A
        echo $A > $CREATE
        kill -TERM $WRITER
        until ctl klog | grep -q 'blocked until'; do :; done
        kill -KILL $WRITER
        ctl klog | tail -1 | cut -d' ' -f3-
        kill -0 $WRITER && ls $MATRIX
        ctl stop-guest vm
        wait $WRITER 2> /dev/null
        ls -d $MATRIX/$A
        """,
    )
    lines = said.splitlines()
    assert lines[0] == "iommu_group"
    assert refusal(lines[1]) == "File exists"
    assert 'Device is currently in use, task "bash"' in said
    assert "aaaaaaaa-0000-4000-8000-000000000001\n" in said, "SIGKILL did not end it"
    assert refusal(lines[-1]) == "No such file or directory"


def test_b43_who_waits_for_resets(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        GUEST
        + """
        ctl reset-time 600
        now() { date +%s%3N; }
        begin=$(now); (echo 5 > $MDEV/$A/unassign_adapter; echo "unassigned $(( $(now) - begin ))") & WRITER=$!
        until grep -q ^0x00 $MDEV/$A/ap_config; do :; done
        echo "ap_config $(( $(now) - begin ))"
        cat $MDEV/$A/matrix > /dev/null; echo "matrix $(( $(now) - begin ))"
        wait $WRITER
        """,
    )
    took = {name: int(milliseconds) for name, milliseconds in (line.split() for line in said.splitlines())}
    assert took["ap_config"] < 500
    assert 600 <= took["unassigned"] < 1500
    assert 600 <= took["matrix"] < 1500


def test_v31_a_second_writer_of_remove_does_not_wait(tmp_path: Path) -> None:
    said = shell(
        tmp_path,
        GUEST
        + """
        exec 5> $MDEV/$A/remove
        (echo 1 > $MDEV/$A/remove) & WRITER=$!
        until [ ! -e $MDEV/$A ]; do :; done
        echo 1 >&5
        ctl stop-guest vm; wait $WRITER; echo "first $?"
        """,
    ).splitlines()
    assert [refusal(said[0]), said[-1]] == ["No such device", "first 0"]


def test_without_permission_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "machine.yaml").write_text("{}")
    assert main(["mount", "--config", str(tmp_path / "machine.yaml"), str(tmp_path / "nowhere")]) == 1
    assert "cannot mount on" in capsys.readouterr().err


def test_uevents_reach_pyudev(tmp_path: Path) -> None:
    pytest.importorskip("pyudev", reason="no pyudev here")
    said = shell(
        tmp_path,
        """
        "$PYTHON" -c '
        import pyudev
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        monitor.filter_by("ap"); monitor.start(); print("listening", flush=True)
        for device in iter(monitor.poll, None):
            print(device.action, device.device_path, device.properties.get("APMASK"), flush=True)
            if "APMASK" in device.properties: break
        ' > seen &
        until grep -q listening seen 2> /dev/null; do :; done
        echo -5 > $BUS/apmask
        wait %2; cat seen
        """.replace("\n        ", "\n"),
        uevents=True,
    ).splitlines()
    assert said[1:3] == [f"{action} /devices/ap/card05/05.0004 None" for action in ("unbind", "bind")]
    assert said[-1] == "change /devices/ap 0xfb" + "f" * 62


def test_uevents_stay_out_of_other_namespaces(tmp_path: Path) -> None:
    said = shell(tmp_path, "mkdir more; sim mount --uevents --config machine.yaml more")
    assert "network namespace of their own" in said
