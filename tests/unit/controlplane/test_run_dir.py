import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane import ControlPlane, rundir


@pytest.mark.parametrize("long", [False, True])
async def test_a_folder_for_temporary_files_is_used_unless_its_name_leaves_no_room_for_sockets(monkeypatch, long):
    folder = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))
    given = folder / ("x" * 60) if long else folder
    given.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(given))
    plane = ControlPlane(binaries={})
    with pytest.raises(KeyError):  # there is no etcd to start
        await plane.start()
    assert plane.run_dir.parent == (Path("/tmp") if long else folder)
    assert not plane.run_dir.exists()
    assert list(given.iterdir()) == []
    shutil.rmtree(folder)


@pytest.fixture
def temporary(monkeypatch):
    """A short folder for temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_what_a_killed_run_left_goes_with_the_next_one(temporary):
    code = "import time; from vfio_ap_sim.controlplane import rundir; "
    code += "held = rundir.make(keep=False); print(held[0], flush=True); time.sleep(60)"
    environ = {**os.environ, "TMPDIR": str(temporary)}
    other = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)
    with other:
        theirs = Path(other.stdout.readline().strip())
        (theirs / "n").mkdir()
        (theirs / "n" / "host.sock").touch()
        mine, held = rundir.make(keep=False)
        assert theirs.exists(), "it runs"
        other.kill()
        other.wait()
        rundir.make(keep=True)
        assert not theirs.exists()
    assert mine.exists()
    assert held is not None
    held.close()


def test_a_folder_that_was_to_be_kept_stays(temporary):
    kept, held = rundir.make(keep=True)
    assert held is None
    rundir.make(keep=True)
    assert kept.exists()
