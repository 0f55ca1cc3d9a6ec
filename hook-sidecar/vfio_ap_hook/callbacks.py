"""KubeVirt's hook protocol: the services Info and Callbacks, from request message to reply message.

Names and numbers are those of the .proto files beside this package, which follow KubeVirt's pkg/hooks. Knows no
transport.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from vfio_ap_hook.domain import add_hostdev
from vfio_ap_hook.errors import Code, RefusedError
from vfio_ap_hook.protobuf import decode, encode
from vfio_ap_hook.vmi import uuid_of

NAME: Final = "vfio-ap"
VERSIONS: Final = ("v1alpha1", "v1alpha2", "v1alpha3")
INFO: Final = "/kubevirt.hooks.info.Info/Info"

_DOMAIN_XML, _VMI = 1, 2
_CLOUD_INIT_FIELDS: Final = (1, 3)
"""cloudInitNoCloudSource and cloudInitData, the same in the parameters and in the result; 2 is the VMI."""
_INFO_NAME, _INFO_HOOK_POINTS, _INFO_VERSIONS, _POINT_NAME = 1, 3, 4, 1

log = logging.getLogger(__name__)


class Callbacks:
    """One VM's hooks.

    Offers the given versions; virt-launcher uses the newest. It subscribes to OnDefineDomain, and in v1alpha3 to
    Shutdown: without it the sidecar outlives the guest and the pod does not complete. It does not subscribe to
    PreCloudInitIso, for virt-launcher asks only the first sidecar that does (pkg/hooks/manager.go), and that may
    be somebody else's.
    """

    def __init__(self, versions: Sequence[str] = VERSIONS) -> None:
        self.over = False
        """Whether virt-launcher said that the guest has ended."""
        self._versions = versions
        self._methods: dict[str, Callable[[bytes], bytes]] = {INFO: self._info}
        for version in versions:
            service = f"/kubevirt.hooks.{version}.Callbacks/"
            self._methods[f"{service}OnDefineDomain"] = _on_define_domain
            if version != "v1alpha1":
                self._methods[f"{service}PreCloudInitIso"] = _pre_cloud_init_iso
            if version == "v1alpha3":
                self._methods[f"{service}Shutdown"] = self._shutdown

    def call(self, path: str, message: bytes) -> bytes:
        """Answer one request. Raises RefusedError; the log gets the outcome, not what the user wrote."""
        try:
            method = self._methods.get(path)
            if method is None:
                raise RefusedError(f"there is no method {path[:200]!a} here", Code.UNIMPLEMENTED)
            reply = method(message)
        except RefusedError as refusal:
            log.warning("%s refused: %s", path[:200], refusal)
            raise
        log.info("%s answered", path)
        return reply

    def _info(self, message: bytes) -> bytes:
        decode(message)
        points = ["OnDefineDomain"]
        if "v1alpha3" in self._versions:
            points.append("Shutdown")
        # The priority, field 2 of a hook point, is 0 for each, and proto3 does not write a 0.
        return b"".join(
            [
                encode(_INFO_NAME, NAME.encode()),
                *(encode(_INFO_HOOK_POINTS, encode(_POINT_NAME, point.encode())) for point in points),
                *(encode(_INFO_VERSIONS, version.encode()) for version in self._versions),
            ]
        )

    def _shutdown(self, message: bytes) -> bytes:
        decode(message)
        self.over = True
        return b""


def _on_define_domain(message: bytes) -> bytes:
    fields = decode(message)
    return encode(_DOMAIN_XML, add_hostdev(fields.get(_DOMAIN_XML, b""), uuid_of(fields.get(_VMI, b""))))


def _pre_cloud_init_iso(message: bytes) -> bytes:
    fields = decode(message)
    return b"".join(encode(number, fields[number]) for number in _CLOUD_INIT_FIELDS if number in fields)
