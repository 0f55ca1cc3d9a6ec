"""What somebody with an editor's rights tries on a held target, and what comes of it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane import CommandFailedError

from .pause import HOLD
from .people import BANK
from .test_killed import held

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="package")]
LIFTED = b'ap.s390x.io/hold="lifted"\n'
MINE = "hook-sidecar-0"
READ_ONLY = ("configMap", "downwardAPI", "projected", "secret")
"""Volumes that kubelet mounts for reading only, whatever the pod says (its volume plugins' GetAttributes)."""


def writable(pod):
    """Return the folders that a process in our sidecar may write to, by its mounts."""
    (container,) = [c for c in pod["spec"]["containers"] if c["image"].startswith("vfio-ap-hook")]
    assert container["name"] == MINE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    return [
        mount
        for mount in container["volumeMounts"]
        if not mount.get("readOnly") and not volumes[mount["name"]].keys() & set(READ_ONLY)
    ]


async def test_a_hold_cannot_be_forged_by_exec(people, pause):
    """Who may exec into the sidecar may write where it may, and run its program with variables of their own."""
    uuid = await people.matrix("forged")
    source = await people.boot("target", "forged")
    await pause.at(HOLD)
    await people.ask("target")
    pod = await people.target(held)
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    folder = people.cluster.nodes[node].kubelet.volumes(BANK, name)
    (socket,) = writable(pod)
    assert socket["mountPath"] == "/var/run/kubevirt-hooks"
    sockets = folder / socket["name"] / socket["subPath"]
    # All that is theirs to write says that the hold is lifted
    for path in ("annotations", "hold", "lifted"):
        (sockets / path).write_bytes(LIFTED)
    environ = {**os.environ, "HOLD_FILE": str(sockets / "annotations"), "HOOK_SOCKET_DIR": str(sockets)}
    command = [str(Path(sys.executable).with_name("vfio-ap-hook")), "ready"]
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(subprocess.run, command, env=environ, cwd=folder)).returncode:
            await asyncio.sleep(0.2)  # until the sidecar serves: then the forged file would do, were it asked
    patch = ("patch", "pod", name, "-n", BANK, "--type=merge", "-p")
    with pytest.raises(CommandFailedError, match="written by the vfio-ap operator only"):
        await people.cluster.plane.kubectl(*patch, '{"metadata":{"annotations":{"ap.s390x.io/hold":"lifted"}}}')
    # The next probes have run by the time that something else of the pod has changed twice
    for turn in ("1", "2"):
        await people.cluster.plane.kubectl(*patch, f'{{"metadata":{{"annotations":{{"turn":"{turn}"}}}}}}')
        await asyncio.sleep(1.2)  # the probe's period: nothing tells that it has said no again
    assert held(await people.target(lambda p: p["metadata"]["name"] == name))
    assert people.users(uuid) == {source: "bank_target", node: None}
    await pause.at("")
    assert (await people.over("target"))["status"]["phase"] == "Succeeded"


async def test_a_sidecar_that_is_replaced_by_exec_does_not_let_the_guest_in_without_the_operator(people, pause):
    """Killing the hook's process ends the container: the target never becomes ready, and the guest stays."""
    uuid = await people.matrix("replaced")
    source = await people.boot("tough", "replaced")
    await pause.at(HOLD)
    await people.ask("tough")
    pod = await people.target(held)
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    worker = people.cluster.nodes[node].kubelet
    with contextlib.suppress(ProcessLookupError):
        for process in children(worker.volumes(BANK, name).parent):
            os.kill(process, signal.SIGKILL)
    await people.target(lambda p: any(s.get("state", {}).get("terminated") for s in statuses(p)))
    await pause.at("")
    await people.forget("tough")
    await people.released(node)
    assert people.users(uuid) == {source: "bank_tough"}


def statuses(pod):
    return pod.get("status", {}).get("containerStatuses", ())


def children(folder):
    """Return the processes that were started in a pod's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found
