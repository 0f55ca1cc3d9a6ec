import shutil
import tempfile
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane import ControlPlane


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
