"""Files that people bring: YAML as kubectl prints it, archives, and what is neither."""

import io
import os
import tarfile

import pytest

from vfio_ap_cli.exits import Stop
from vfio_ap_cli.reading import files

NODE = """
apiVersion: v1
kind: List
items:
- apiVersion: ap.s390x.io/v1alpha1
  kind: APNode
  metadata: {name: n1, creationTimestamp: 2026-01-01T00:00:00Z}
  status:
    keySets:
    - name: k1
      patterns:
        AES CUR: 0x00112233445566770011223344556677
        short: 0x10
"""


def test_a_long_number_is_text_as_it_is_for_kubectl():
    (node,) = files.parsed(NODE, "here")
    patterns = node["status"]["keySets"][0]["patterns"]
    assert patterns == {"AES CUR": "0x00112233445566770011223344556677", "short": 16}


def test_a_time_is_text():
    (node,) = files.parsed(NODE, "here")
    assert node["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


def test_octal_is_read_as_kubectl_reads_it():
    (matrix,) = files.parsed("{kind: APMatrix, metadata: {name: m}, spec: {adapters: [010]}}", "here")
    assert matrix["spec"]["adapters"] == [8]


@pytest.mark.parametrize(
    "text", ["- just\n- a list", "hello", "{kind: APMatrix}", "a: [", "{kind: 3, metadata: {name: x}}"]
)
def test_what_is_no_object_is_refused_with_its_place(text, tmp_path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(Stop, match=r"bad\.yaml") as caught:
        files.manifests([str(tmp_path / "bad.yaml")])
    assert caught.value.exit_code == 2


def test_an_archive_is_read_and_never_unpacked(tmp_path):
    path = tmp_path / "gather.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("../../evil.yaml", "objects/n1.yaml"):
            member = tarfile.TarInfo(name)
            member.size = len(NODE)
            archive.addfile(member, io.BytesIO(NODE.encode()))
        link = tarfile.TarInfo("objects/link.yaml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.parent.rglob("*"))
    assert [n["metadata"]["name"] for n in files.snapshot(str(path)).of("APNode")] == ["n1", "n1"]
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bnonsense", b"plain text"])
def test_what_is_no_archive_is_misuse(content, tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(Stop) as caught:
        files.snapshot(str(path))
    assert caught.value.exit_code == 2


def test_a_folder_without_our_objects_is_misuse(tmp_path):
    with pytest.raises(Stop, match="has no object of ours"):
        files.snapshot(str(tmp_path))


def test_a_shells_pipe_is_a_file():
    reader, writer = os.pipe()
    os.write(writer, NODE.encode())
    os.close(writer)
    try:
        assert [d["metadata"]["name"] for d in files.manifests([f"/dev/fd/{reader}"])] == ["n1"]
    finally:
        os.close(reader)


def test_what_has_no_end_or_cannot_be_read_is_misuse(monkeypatch):
    monkeypatch.setattr(files, "_LARGEST", 1 << 10)
    for name, said in (("/dev/zero", "larger than"), ("/proc/self/mem", "cannot be read")):
        with pytest.raises(Stop, match=said) as caught:
            files.manifests([name])
        assert caught.value.exit_code == 2
