import socket

import pytest

from vfio_ap_sim.controlplane import ports
from vfio_ap_sim.controlplane.errors import NoPortError


def test_free_ports_are_different_and_out_of_the_way_of_outgoing_connections():
    found = ports.free_ports(20)
    assert len(set(found)) == 20
    assert all(20000 <= port < 30000 for port in found)


def test_a_port_in_use_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_none_free_is_said(monkeypatch):
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(NoPortError, match="20000 to 29999"):
        ports.free_ports(1)
