"""The edit: the one element, in the one place, or nothing."""

import io
import subprocess
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_ap_hook.domain import MAX_BYTES, MAX_DEPTH, add_hostdev
from vfio_ap_hook.errors import RefusedError

from .support import DECORATED, ELEMENT, HOOK, KUBEVIRT, OTHER, UUID

OS = b"<os><type arch='s390x'>hvm</type></os>"
HOSTDEV = ELEMENT.decode()


def domain(devices: str, os_type: bytes = OS) -> bytes:
    return b"<domain>" + os_type + devices.encode() + b"</domain>"


def canonical(root: ElementTree.Element) -> str:
    return ElementTree.canonicalize(ElementTree.tostring(root))


def expected(xml: bytes) -> str:
    """Return the result by another road: the tree with one child more."""
    root = ElementTree.parse(io.BytesIO(xml)).getroot()
    devices = root.find("devices")
    assert devices is not None
    devices.append(ElementTree.fromstring(ELEMENT))
    return canonical(root)


def only_inserted(before: bytes, after: bytes) -> bool:
    """Whether ``after`` is ``before`` with the element put in."""
    at = next((at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), len(before))
    places = range(max(0, at - len(ELEMENT)), at + 1)
    return any(before[:place] + ELEMENT + before[place:] == after for place in places)


@pytest.mark.parametrize("xml", [KUBEVIRT, DECORATED], ids=["kubevirt", "decorated"])
def test_nothing_but_the_element_is_added(xml):
    edited = add_hostdev(xml, UUID)
    assert len(edited) == len(xml) + len(ELEMENT)
    assert only_inserted(xml, edited)
    assert canonical(ElementTree.parse(io.BytesIO(edited)).getroot()) == expected(xml)


@pytest.mark.parametrize("xml", [KUBEVIRT, DECORATED], ids=["kubevirt", "decorated"])
def test_a_second_time_changes_nothing(xml):
    edited = add_hostdev(xml, UUID)
    assert add_hostdev(edited, UUID) == edited


@pytest.mark.parametrize("tail", ["</domain>", "<!-- </devices> --></domain>", " <x></x></domain>"])
@pytest.mark.parametrize(
    ("tag", "opened"), [("<devices/>", "<devices>"), ("<devices a='/>' />", "<devices a='/>' >")]
)
def test_an_empty_element_is_opened(tag, opened, tail):
    xml = b"<domain>" + OS + (tag + tail).encode()
    assert add_hostdev(xml, UUID) == b"<domain>" + OS + opened.encode() + ELEMENT + b"</devices>" + tail.encode()


@pytest.mark.parametrize(
    "same",
    [
        HOSTDEV,
        HOSTDEV.replace("'", '"').replace("<hostdev ", "<hostdev managed='no' "),
        HOSTDEV.replace("</hostdev>", "<alias name='hostdev0'/><address type='ccw' devno='0x0007'/></hostdev>"),
    ],
)
def test_the_device_that_is_there_stays(same):
    xml = domain(f"<devices>{same}</devices>")
    assert add_hostdev(xml, UUID) == xml


@pytest.mark.parametrize(
    "there",
    [
        HOSTDEV.replace(UUID, OTHER),
        HOSTDEV + HOSTDEV,
        HOSTDEV + HOSTDEV.replace(UUID, OTHER),
        HOSTDEV.replace("vfio-ap", "vfio-pci"),
        HOSTDEV.replace(" model='vfio-ap'", ""),
        HOSTDEV.replace("type='mdev'", "type='pci'"),
        HOSTDEV.replace("mode='subsystem'", "mode='capabilities'"),
        HOSTDEV.replace("</source>", f"<address uuid='{OTHER}'/></source>"),
        "<hostdev model='vfio-ap'/>",
        HOSTDEV.replace("vfio-ap", "&#118;fio-ap").replace(UUID, OTHER),
    ],
)
def test_another_device_is_refused(there):
    with pytest.raises(RefusedError, match="has a hostdev already"):
        add_hostdev(domain(f"<devices>{there}</devices>"), UUID)


DEEP = "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH
BOMB = "<!DOCTYPE domain [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (b"", "malformed"),
        (KUBEVIRT[:-12], "malformed"),
        (KUBEVIRT + b"<domain/>", "malformed"),
        (domain("<devices>&nbsp;</devices>"), "malformed"),
        (domain("<devices>\0</devices>"), "zero byte"),
        (domain("<devices>").replace(b"<devices>", b"<devices>\xff</devices>"), "malformed"),
        (domain("<devices a='1' a='2'/>"), "malformed"),
        (domain("<devices><q:x/></devices>"), "malformed"),
        (domain("<devices/>").decode().encode("utf-16"), "zero byte"),
        (domain("<devices/>").decode().encode("utf-16-le"), "zero byte"),
        (b"<?xml version='1.1'?>" + domain("<devices/>"), "must be XML 1.0"),
        (b"<?xml version='1.0' encoding='iso-8859-1'?>" + domain("<devices/>"), "must be XML 1.0"),
        (b"<!DOCTYPE domain>" + domain("<devices/>"), "document type"),
        (BOMB.encode() + domain("<devices>&b;</devices>"), "document type"),
        (b"<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>" + domain("<devices/>"), "document type"),
        (domain(f"<devices>{DEEP}</devices>"), "nested"),
        (domain(f"<devices><!--{'x' * MAX_BYTES}--></devices>"), "larger than"),
        (domain(""), "one <devices> element, not 0"),
        (domain("<devices/><devices/>"), "one <devices> element, not 2"),
        (domain("<devices></devices><x/><devices>" + HOSTDEV + "</devices>"), "one <devices> element, not 2"),
        (domain("<x><devices/></x>"), "one <devices> element, not 0"),
        (domain("<Devices/>"), "one <devices> element, not 0"),
        (b"<domains>" + domain("<devices/>") + b"</domains>", "must be a <domain>"),
        (b"<network><devices/></network>", "must be a <domain>"),
        (domain("<devices/>").replace(b"<domain", b"<domain xmlns='urn:x'", 1), "must be a <domain>"),
        (b"<d:domain xmlns:d='urn:x'>" + OS + b"<devices/></d:domain>", "must be a <domain>"),
        (domain("<devices xmlns='urn:x'/>"), "must not use a namespace"),
        (domain("<d:devices xmlns:d='urn:x'/>"), "must not use a namespace"),
        (domain("<devices/><d:devices xmlns:d='urn:x'/>"), "must not use a namespace"),
        (domain("<devices><d:hostdev xmlns:d='urn:x' model='vfio-ap'/></devices>"), "must not use a namespace"),
        (domain("<devices><hostdev xmlns:d='urn:x' d:model='vfio-ap'/></devices>"), "must not use a namespace"),
        (domain("<devices/>", OS.replace(b"<os>", b"<os xmlns='urn:x'>")), "must not use a namespace"),
        (domain("<devices/>", OS.replace(b"s390x", b"x86_64")), "arch s390x, not x86_64"),
        (domain("<devices/>", b"<os><type>hvm</type></os>"), "arch s390x, not none"),
        (domain("<devices/>", b""), "arch s390x, not no os type"),
        (domain("<devices/>", OS + OS.replace(b"s390x", b"aarch64")), "arch s390x, not s390x, aarch64"),
        (domain("<devices/>", b"<os/><x><type arch='s390x'/></x>"), "arch s390x, not no os type"),
    ],
)
def test_what_is_refused(xml, why):
    with pytest.raises(RefusedError, match=why) as refused:
        add_hostdev(xml, UUID)
    sentence = str(refused.value)
    assert len(sentence) < 250
    assert "\n" not in sentence


def test_the_deepest_that_is_allowed():
    depth = MAX_DEPTH - 2
    xml = domain("<devices>" + "<a>" * depth + "</a>" * depth + "</devices>")
    assert only_inserted(xml, add_hostdev(xml, UUID))
    with pytest.raises(RefusedError, match="nested"):
        add_hostdev(xml.replace(b"<a></a>", b"<a><a/></a>"), UUID)


NOISE = st.sampled_from(
    [
        " ", "\r\n\t", "é決", "&lt;/devices&gt;", "<!-- </devices> -->", "<?x </devices> ?>",
        "<![CDATA[</devices>]]>", "<x a='/devices>' b=\"'>\"/>", "<x><devices></devices ></x>", "<devices/>",
        "<x:devices xmlns:x='urn:x'/>", "<disk/>", "<os/>", "<hostdev mode='subsystem' type='pci'/>",
        HOSTDEV, HOSTDEV.replace(UUID, OTHER),
    ]
)  # fmt: skip
SOUP = st.lists(NOISE, max_size=5).map("".join)
TAGS = st.sampled_from(
    [("<devices>", "</devices>"), ("<devices\n>", "</devices\t>"), ("<devices z='>'>", "</devices>")]
)


@given(SOUP, SOUP, SOUP, TAGS)
def test_around_any_neighbours(before, inside, after, tags):
    xml = domain(f"{before}{tags[0]}{inside}{tags[1]}{after}")
    try:
        edited = add_hostdev(xml, UUID)
    except RefusedError:
        assert "<devices/>" in before + after or "x:devices" in before + after or HOSTDEV[:54] in inside
        return
    if edited == xml:
        assert inside.count(HOSTDEV) == 1
    else:
        assert only_inserted(xml, edited)
        assert canonical(ElementTree.fromstring(edited)) == expected(xml)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_domain_is_refused_or_edited_in_place(data):
    xml = data.draw(st.sampled_from([KUBEVIRT, DECORATED]))
    start = data.draw(st.integers(0, len(xml)))
    end = data.draw(st.integers(start, min(len(xml), start + 40)))
    scrap = data.draw(st.one_of(st.binary(max_size=8), SOUP.map(str.encode)))
    damaged = xml[:start] + scrap + xml[end:]
    try:
        edited = add_hostdev(damaged, UUID)
    except RefusedError:
        return
    assert edited == damaged or only_inserted(damaged, edited)
    ElementTree.parse(io.BytesIO(edited))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(junk):
    with pytest.raises(RefusedError):
        add_hostdev(junk, UUID)


def edit(uuid: str, xml: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([HOOK, "edit", "--uuid", uuid], input=xml, capture_output=True, timeout=20)


def test_edit_for_people():
    done = edit(UUID, DECORATED)
    assert (done.returncode, done.stdout, done.stderr) == (0, add_hostdev(DECORATED, UUID), b"")
    refused = edit(UUID, domain(""))
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr == b"vfio-ap-hook: the domain must have one <devices> element, not 0\n"
    misused = edit(UUID.upper(), KUBEVIRT)
    assert (misused.returncode, misused.stdout) == (2, b"")
    assert b"not a UUID in lower case" in misused.stderr
