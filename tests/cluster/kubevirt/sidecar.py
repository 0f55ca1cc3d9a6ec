"""A hook sidecar for the tests: adds mdev hostdevs to the domain. Run by the played kubelet in place of an image.

``sidecar.py [--version V] [--veto-target] [--nonsense] [MODEL=UUID...]``
"""

import argparse
import asyncio
import json
import os
import sys
import xml.etree.ElementTree as ET

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from vfio_ap_sim.kubevirt import hookwire as wire


class Sidecar:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.over = asyncio.Event()

    async def info(self, stream) -> None:
        await stream.recv_message()
        points = [wire.HookPoint(name=name) for name in (wire.ON_DEFINE_DOMAIN, wire.SHUTDOWN)]
        versions = [self.options.version]
        await stream.send_message(wire.InfoResult(name="test", hookPoints=points, versions=versions))

    async def on_define_domain(self, stream) -> None:
        request = await stream.recv_message()
        target = json.loads(request.vmi)["status"].get("migrationState", {}).get("targetNode")
        if self.options.veto_target and target:
            raise GRPCError(Status.FAILED_PRECONDITION, f"not on {target}")
        if self.options.nonsense:
            await stream.send_message(wire.OnDefineDomainResult(domainXML=request.domainXML[:-20]))
            return
        root = ET.fromstring(request.domainXML)
        for device in self.options.devices:
            model, _, uuid = device.partition("=")
            hostdev = ET.SubElement(root.find("devices"), "hostdev", type="mdev", mode="subsystem", model=model)
            ET.SubElement(ET.SubElement(hostdev, "source"), "address", uuid=uuid)
        await stream.send_message(wire.OnDefineDomainResult(domainXML=ET.tostring(root)))

    async def shutdown(self, stream) -> None:
        await stream.recv_message()
        await stream.send_message(wire.ShutdownResult())
        self.over.set()

    def __mapping__(self) -> dict[str, Handler]:
        def unary(method, request, reply):
            return Handler(method, Cardinality.UNARY_UNARY, request, reply)

        version = self.options.version
        define = unary(self.on_define_domain, wire.OnDefineDomainParams, wire.OnDefineDomainResult)
        return {
            wire.INFO_PATH: unary(self.info, wire.InfoParams, wire.InfoResult),
            wire.callback_path(version, wire.ON_DEFINE_DOMAIN): define,
            wire.callback_path(version, wire.SHUTDOWN): unary(
                self.shutdown, wire.ShutdownParams, wire.ShutdownResult
            ),
        }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", default="v1alpha3")
    parser.add_argument("--veto-target", action="store_true")
    parser.add_argument("--nonsense", action="store_true")
    parser.add_argument("devices", nargs="*")
    sidecar = Sidecar(parser.parse_args())
    server = Server([sidecar])
    await server.start(path=f"{os.environ['HOOK_SOCKET_DIR']}/test.sock")
    await sidecar.over.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
