"""Add a vfio-ap device to a libvirt domain, and change no other byte of it.

The text is edited at an offset that expat reports and never written anew: what KubeVirt, another sidecar or a
later libvirt put there survives as it was. Does no I/O and knows neither KubeVirt nor gRPC.

Whoever reads the result may be more lenient than we are: Go's encoding/xml and libvirt compare the local names of
elements and do not care for namespaces. So the names that decide something here must be in no namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from vfio_ap_hook.errors import Code, RefusedError

MAX_BYTES: Final = 2 << 20
"""Largest domain that is looked at; KubeVirt's are some ten KiB."""
MAX_DEPTH: Final = 256
"""Deepest nesting, as libxml2 has it (xmlParserMaxDepth); libvirt would refuse more."""
ARCH: Final = "s390x"
MODEL: Final = "vfio-ap"

_HOSTDEV: Final = "domain/devices/hostdev"
_SOURCE: Final = f"{_HOSTDEV}/source"
_ADDRESS: Final = f"{_SOURCE}/address"
_DEVICES: Final = "domain/devices"
_OS_TYPE: Final = "domain/os/type"
_DECISIVE: Final = frozenset({"domain", "domain/os", _OS_TYPE, _DEVICES, _HOSTDEV, _SOURCE, _ADDRESS})


def hostdev(uuid: str) -> str:
    """Return libvirt's element for the mediated device ``uuid`` (T-20; ``managed`` means nothing for an mdev).

    >>> hostdev("62177883-f1bb-47f0-914d-32a22e3a8804")[:54]
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'>"
    """
    source = f"<source><address uuid='{uuid}'/></source>"
    return f"<hostdev mode='subsystem' type='mdev' model='{MODEL}'>{source}</hostdev>"


def add_hostdev(xml: bytes, uuid: str) -> bytes:
    """Return the domain with the mediated device ``uuid``, a UUID in lower case, as the last of its devices.

    A domain that has this very device comes back as it is. Raises RefusedError for a domain that is no plain
    libvirt domain for s390x, or that has another vfio-ap device: libvirt takes only one (V-27).
    """
    domain = _read(xml)
    if domain.archs != [ARCH]:
        found = ", ".join(arch or "none" for arch in domain.archs) or "no os type"
        raise RefusedError(f"the domain must have one os type with arch {ARCH}, not {found}")
    if len(domain.devices) != 1:
        raise RefusedError(f"the domain must have one <devices> element, not {len(domain.devices)}")
    rivals = [device for device in domain.hostdevs if device.model == MODEL or uuid in device.uuids]
    if [device.is_mdev(uuid) for device in rivals] == [True]:
        return xml
    if rivals:
        uses = ", ".join(f"{device.model or 'no model'} {' '.join(device.uuids)}".strip() for device in rivals)
        raise RefusedError(
            f"the domain has a hostdev already ({uses}); libvirt takes one of model {MODEL}, here {uuid}"
        )
    end, element = domain.devices[0], hostdev(uuid).encode()
    if xml.startswith(b"</devices", end):
        return xml[:end] + element + xml[end:]
    empty_tag = xml[:end].removesuffix(b"/>")
    return empty_tag + b">" + element + b"</devices>" + xml[end:]


@dataclass(slots=True)
class _Hostdev:
    attributes: dict[str, str]
    uuids: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.attributes.get("model", "")

    def is_mdev(self, uuid: str) -> bool:
        """Whether it is what ``hostdev(uuid)`` makes; an alias or an address may have been added to it."""
        kind = [self.attributes.get(name) for name in ("mode", "type", "model")]
        return kind == ["subsystem", "mdev", MODEL] and self.uuids == [uuid]


@dataclass(slots=True)
class _Domain:
    """What decides about a domain."""

    archs: list[str] = field(default_factory=list)
    """Of every os type; empty text where it names none."""
    devices: list[int] = field(default_factory=list)
    """Offset at which each <devices> ends: of its end tag, or behind its empty-element tag."""
    hostdevs: list[_Hostdev] = field(default_factory=list)


def _read(xml: bytes) -> _Domain:
    if len(xml) > MAX_BYTES:
        raise RefusedError(f"the domain XML is larger than {MAX_BYTES} bytes", Code.RESOURCE_EXHAUSTED)
    if b"\0" in xml:  # expat reads UTF-16, whatever it is told, if there is a byte order mark
        raise RefusedError("the domain XML has a zero byte", Code.INVALID_ARGUMENT)
    found, path = _Domain(), list[str]()
    parser = expat.ParserCreate("UTF-8", " ")

    def declaration(version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "UTF-8").upper() != "UTF-8":
            raise RefusedError(f"the domain XML must be XML 1.0 in UTF-8, not {version[:20]!a} in {encoding!a}")

    def doctype(*_: object) -> None:
        raise RefusedError("the domain XML has a document type declaration")

    def start(name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        path.append(local)
        if len(path) > MAX_DEPTH:
            raise RefusedError(f"the domain XML is nested more than {MAX_DEPTH} deep")
        place = "/".join(path) if len(path) <= _ADDRESS.count("/") + 1 else ""
        if len(path) == 1 and name != "domain":
            raise RefusedError(f"the XML must be a <domain> in no namespace, not {name[:80]!a}")
        if place not in _DECISIVE:
            return
        if namespace or any(" " in attribute for attribute in attributes):
            raise RefusedError(f"{place} must not use a namespace")
        if place == _OS_TYPE:
            found.archs.append(attributes.get("arch", ""))
        elif place == _HOSTDEV:
            found.hostdevs.append(_Hostdev(attributes))
        elif place == _ADDRESS:
            found.hostdevs[-1].uuids.append(attributes.get("uuid", ""))

    def end(_name: str) -> None:
        if path == ["domain", "devices"]:
            found.devices.append(parser.CurrentByteIndex)
        path.pop()

    parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = declaration, doctype
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise RefusedError(f"the domain XML is malformed: {error}", Code.INVALID_ARGUMENT) from None
    finally:
        parser.StartElementHandler = parser.EndElementHandler = None
    return found
