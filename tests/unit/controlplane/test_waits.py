import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from vfio_ap_sim.cluster import SimCluster, TookTooLongError, simcluster


async def nothing(*_, **__):
    await asyncio.Event().wait()
    yield


@pytest.mark.parametrize(("pid", "said"), [(None, "0 s (kube-apiserver runs no more); last"), (7, "0 s; last")])
async def test_a_wait_in_vain_names_the_server_that_ended(monkeypatch, pid, said):
    monkeypatch.setattr(simcluster, "follow", nothing)
    plane = SimpleNamespace(servers={"etcd": 5, "kube-apiserver": pid})
    cluster = SimCluster(Path(), plane=plane)
    cluster.client = None
    with pytest.raises(TookTooLongError) as caught:
        await cluster.until(simcluster.APNODES, "lnx1", bool, "Ready", limit=0)
    assert said in str(caught.value)
