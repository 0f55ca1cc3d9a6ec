"""The domain XML of an s390x guest from its VMI, as virt-launcher's converter writes it, and what counts in it.

After pkg/virt-launcher/virtwrap/converter of v1.8.4 and its testdata/domain_s390x.xml.tmpl; disks are left out,
for nothing of a guest is on a disk here. Functions from data to data.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vfio_ap_sim.kubevirt.api import Document
from vfio_ap_sim.kubevirt.libvirterror import Code, LibvirtError
from vfio_ap_sim.kubevirt.quantity import bytes_of

METADATA: Final = "http://kubevirt.io"
QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_UNITS: Final = {"b": 1, "bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

ET.register_namespace("qemu", QEMU)


@dataclass(frozen=True, slots=True)
class Mdev:
    """A ``<hostdev mode='subsystem' type='mdev'>``."""

    uuid: str
    model: str


@dataclass(frozen=True, slots=True)
class Domain:
    """What libvirt and QEMU go by."""

    name: str
    memory: int
    """Bytes."""
    cpu_mode: str
    features: Mapping[str, str]
    """CPU feature to policy."""
    mdevs: tuple[Mdev, ...]


def guest_name(vmi: Document) -> str:
    """Return the name of the VMI's domain (api.VMINamespaceKeyFunc)."""
    return f"{vmi['metadata']['namespace']}_{vmi['metadata']['name']}"


def guest_memory(vmi: Document) -> int:
    """Return the guest's memory in bytes (vcpu.GetVirtualMemory): asked for as such, else the pod's request."""
    domain = vmi["spec"]["domain"]
    guest = domain.get("memory", {}).get("guest")
    resources = domain.get("resources", {})
    for asked in (guest, resources.get("requests", {}).get("memory"), resources.get("limits", {}).get("memory")):
        if asked is not None:
            return bytes_of(asked)
    return 0


def pooled_mdevs(vmi: Document, envs: Mapping[str, str]) -> list[str]:
    """Return the UUID for each hostDevice, from the variables that device plugins set.

    After pkg/virt-launcher/virtwrap/device/hostdevice/generic/addresspool.go. Raises LookupError with
    virt-launcher's text where a plugin set none.
    """
    left: dict[str, list[str]] = {}
    found = []
    for device in vmi["spec"]["domain"].get("devices", {}).get("hostDevices", ()):
        resource: str = device["deviceName"]
        variable = "MDEV_PCI_RESOURCE_" + resource.upper().replace("/", "_").replace(".", "_")
        pool = left.setdefault(resource, [uuid for uuid in envs.get(variable, "").split(",") if uuid])
        if not pool:
            why = f"no more addresses to allocate for resource {resource}"
            raise LookupError(f"failed to create hostdevice for {device['name']}: {why}")
        found.append(pool.pop(0))
    return found


def domain_xml(vmi: Document, mdevs: Sequence[str] = ()) -> str:
    """Return the domain's XML; ``mdevs`` are the UUIDs of its hostDevices, in order.

    They get model vfio-pci whatever they are (device/hostdevice/hostdev.go:createMDEVHostDevice), which is why a
    plain hostDevice is no way to an adapter.
    """
    spec = vmi["spec"]["domain"]
    root = ET.Element("domain", type="kvm")
    _text(root, "name", guest_name(vmi))
    _text(root, "memory", str(guest_memory(vmi)), unit="b")
    machine = spec.get("machine", {}).get("type") or "s390-ccw-virtio"
    _text(ET.SubElement(root, "os"), "type", "hvm", arch="s390x", machine=machine)
    _sysinfo(root, spec)
    _devices(root, vmi, mdevs)
    ET.SubElement(root, "clock", offset="utc")
    kubevirt = ET.SubElement(ET.SubElement(root, "metadata"), f"{{{METADATA}}}kubevirt")
    _text(kubevirt, f"{{{METADATA}}}uid", vmi["metadata"]["uid"])
    _cpu(root, spec.get("cpu", {}))
    ET.indent(root, "\t")
    return ET.tostring(root, encoding="unicode")


def parse(xml: str) -> Domain:
    """Return what counts in a domain's XML. Raises LibvirtError."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - the sidecar that wrote it is under test, in this machine's tree
    except ET.ParseError as error:
        raise LibvirtError(Code.XML_ERROR, f"(domain_definition): {error}") from None
    memory = root.find("memory")
    if root.tag != "domain" or memory is None:
        raise LibvirtError(Code.XML_ERROR, "missing domain type or memory element")
    cpu = root.find("cpu")
    features = {f.get("name", ""): f.get("policy") or "require" for f in root.iterfind("cpu/feature")}
    mdevs = []
    for hostdev in root.iterfind("devices/hostdev[@type='mdev']"):
        address = hostdev.find("source/address")
        if address is None or not address.get("uuid"):
            raise LibvirtError(Code.XML_ERROR, "Missing 'uuid' attribute for element <address>")
        mdevs.append(Mdev(address.get("uuid", "").lower(), hostdev.get("model", "")))
    return Domain(
        root.findtext("name", ""),
        int(memory.text or 0) * _UNITS[memory.get("unit", "KiB")],
        cpu.get("mode", "custom") if cpu is not None else "custom",
        features,
        tuple(mdevs),
    )


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _sysinfo(root: ET.Element, spec: Document) -> None:
    firmware = spec.get("firmware", {})
    system = ET.SubElement(ET.SubElement(root, "sysinfo", type="smbios"), "system")
    for name in ("uuid", "serial"):
        if firmware.get(name):
            _text(system, "entry", firmware[name], name=name)


def _devices(root: ET.Element, vmi: Document, mdevs: Sequence[str]) -> None:
    devices = ET.SubElement(root, "devices")
    for interface in vmi["spec"]["domain"].get("devices", {}).get("interfaces", ()):
        nic = ET.SubElement(devices, "interface", type="ethernet")
        ET.SubElement(nic, "source")
        ET.SubElement(nic, "model", type="virtio")
        ET.SubElement(nic, "alias", name=f"ua-{interface['name']}")
    ET.SubElement(devices, "controller", type="usb", index="0", model="none")
    ET.SubElement(devices, "controller", type="virtio-serial", index="0", model="virtio")
    names = [d["name"] for d in vmi["spec"]["domain"].get("devices", {}).get("hostDevices", ())]
    for name, uuid in zip(names, mdevs, strict=True):
        hostdev = ET.SubElement(devices, "hostdev", type="mdev", mode="subsystem", model="vfio-pci")
        ET.SubElement(ET.SubElement(hostdev, "source"), "address", uuid=uuid)
        ET.SubElement(hostdev, "alias", name=f"ua-hostdevice-{name}")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")


def _cpu(root: ET.Element, asked: Document) -> None:
    """Write the CPU as compute/cpu.go does: host-model unless the VMI says otherwise."""
    model = asked.get("model") or "host-model"
    named = model not in ("host-model", "host-passthrough")
    cpu = ET.SubElement(root, "cpu", mode="custom" if named else model)
    if named:
        _text(cpu, "model", model)
    counts = {name: int(asked.get(name) or 1) for name in ("sockets", "cores", "threads")}
    ET.SubElement(cpu, "topology", {name: str(count) for name, count in counts.items()})
    for feature in asked.get("features", ()):
        policy = {"policy": feature["policy"]} if feature.get("policy") else {}
        ET.SubElement(cpu, "feature", policy, name=feature["name"])
    count = counts["sockets"] * counts["cores"] * counts["threads"]
    _text(root, "vcpu", str(count), placement="static")
