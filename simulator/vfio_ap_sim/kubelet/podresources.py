"""The kubelet's pod-resources API: which pod on this node holds which device. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfio_ap_kube.kubelet import podresources_v1_pb2 as pb
from vfio_ap_kube.kubelet.podresources_v1_grpc import PodResourcesListerBase
from vfio_ap_sim.kubelet.devices import DeviceManager

if TYPE_CHECKING:
    from grpclib.server import Stream


class PodResources(PodResourcesListerBase):
    """Answers List."""

    def __init__(self, devices: DeviceManager) -> None:
        self._devices = devices

    async def List(self, stream: Stream[pb.ListPodResourcesRequest, pb.ListPodResourcesResponse]) -> None:
        """Say what every admitted pod holds."""
        await stream.recv_message()
        pods = [
            pb.PodResources(
                namespace=namespace,
                name=name,
                containers=[
                    pb.ContainerResources(
                        name=container,
                        devices=[
                            pb.ContainerDevices(resource_name=a.resource, device_ids=a.devices) for a in held
                        ],
                    )
                    for container, held in containers.items()
                ],
            )
            for namespace, name, containers in self._devices.holders()
        ]
        await stream.send_message(pb.ListPodResourcesResponse(pod_resources=pods))
