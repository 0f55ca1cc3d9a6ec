"""KubeVirt comes and goes with all that is its."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest

from vfio_ap_sim.controlplane import (
    BinaryUnavailableError,
    ControlPlane,
    Located,
    ProcessDiedError,
    default_binaries,
)
from vfio_ap_sim.controlplane.tools import KUBEVIRT, OPTIONAL
from vfio_ap_sim.kubevirt import KubeVirt

pytestmark = pytest.mark.cluster


@pytest.fixture
async def binaries() -> dict[str, Located]:
    try:
        return await asyncio.to_thread(default_binaries().get_all, OPTIONAL)
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
async def plane(binaries) -> AsyncIterator[ControlPlane]:
    async with ControlPlane() as plane:
        yield plane


async def test_it_runs_as_itself_ends_for_certain_and_starts_again(plane, binaries):
    kubevirt = KubeVirt(plane, binaries=binaries)
    await kubevirt.start()
    folder = plane.run_dir / "kubevirt"
    own = f"--kubeconfig={folder / 'kubevirt-controller.kubeconfig'}"
    said = json.loads(await plane.kubectl(own, "auth", "whoami", "-o", "json"))
    assert said["status"]["userInfo"]["username"] == "system:serviceaccount:kubevirt:kubevirt-controller"
    said = json.loads(await plane.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1/version"))
    assert binaries["virt-api"].source == "folder" or said["gitVersion"] == KUBEVIRT
    pids = [pid for pid in kubevirt.servers.values() if pid]
    assert len(pids) == 2
    await kubevirt.stop()
    assert not folder.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    async with KubeVirt(plane, binaries=binaries) as again:
        assert all(again.servers.values())


async def test_what_cannot_start_is_said_and_leaves_nothing(plane, binaries, tmp_path):
    program = tmp_path / "virt-api"
    program.write_text("#!/bin/sh\necho out of luck; exit 7\n")
    program.chmod(0o755)
    kubevirt = KubeVirt(plane, binaries={**binaries, "virt-api": Located("virt-api", program, "folder")})
    with pytest.raises(ProcessDiedError, match="out of luck"):
        await kubevirt.start()
    assert not any(kubevirt.servers.values())
    assert not (plane.run_dir / "kubevirt").exists()
