"""KubeVirt's hook protocol as gRPC: Info, and Callbacks v1alpha1 to v1alpha3 (pkg/hooks of v1.8.4).

The messages are made here and not generated: in a pool of their own they do not clash with the generated code that
a hook sidecar brings along when both are tested in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

VERSIONS: Final = ("v1alpha3", "v1alpha2", "v1alpha1")
"""Newest first: the order in which virt-launcher chooses (pkg/hooks/manager.go:processSideCarSocket)."""
ON_DEFINE_DOMAIN: Final = "OnDefineDomain"
SHUTDOWN: Final = "Shutdown"
INFO_PATH: Final = "/kubevirt.hooks.info.Info/Info"

_STRING, _BYTES, _INT32, _MESSAGE = Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_INT32, Field.TYPE_MESSAGE
_MESSAGES: Mapping[str, Mapping[str, tuple[int, int, bool]]] = {
    "InfoParams": {},
    "HookPoint": {"name": (1, _STRING, False), "priority": (2, _INT32, False)},
    "InfoResult": {
        "name": (1, _STRING, False),
        "hookPoints": (3, _MESSAGE, True),
        "versions": (4, _STRING, True),
    },
    "OnDefineDomainParams": {"domainXML": (1, _BYTES, False), "vmi": (2, _BYTES, False)},
    "OnDefineDomainResult": {"domainXML": (1, _BYTES, False)},
    "ShutdownParams": {},
    "ShutdownResult": {},
}
"""Fields by message: number, type, whether repeated. The callbacks' messages are the same in all versions."""


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="kubevirt_hooks.proto", package="kubevirt.hooks", syntax="proto3")
    for message, fields in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for name, (number, kind, repeated) in fields.items():
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            field = added.field.add(name=name, number=number, label=label, type=kind)
            if kind == _MESSAGE:
                field.type_name = ".kubevirt.hooks.HookPoint"
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"kubevirt.hooks.{name}")) for name in _MESSAGES}


_CLASSES = _classes()
InfoParams = _CLASSES["InfoParams"]
InfoResult = _CLASSES["InfoResult"]
HookPoint = _CLASSES["HookPoint"]
OnDefineDomainParams = _CLASSES["OnDefineDomainParams"]
OnDefineDomainResult = _CLASSES["OnDefineDomainResult"]
ShutdownParams = _CLASSES["ShutdownParams"]
ShutdownResult = _CLASSES["ShutdownResult"]


def callback_path(version: str, method: str) -> str:
    """Return the gRPC path of a callback.

    >>> callback_path("v1alpha3", "Shutdown")
    '/kubevirt.hooks.v1alpha3.Callbacks/Shutdown'
    """
    return f"/kubevirt.hooks.{version}.Callbacks/{method}"
