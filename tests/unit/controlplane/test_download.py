import hashlib
import socket

import pytest

from vfio_ap_sim.controlplane import download
from vfio_ap_sim.controlplane.download import Downloader, expected_sum
from vfio_ap_sim.controlplane.errors import ChecksumMismatchError, DownloadFailedError
from vfio_ap_sim.controlplane.tools import GoBuild, Release, Tool

from .conftest import PROGRAM

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("sums", "found"),
    [
        (A, A),
        (f"{A}\n", A),
        (f"{B}  other\n{A}  thing\n", A),
        (f"{A} *thing\n", A),
        (f"{A}  thing.asc\n", None),
        ("<html>not found</html>", None),
        ("", None),
    ],
)
def test_a_checksum_file_names_our_file_or_nothing(sums, found):
    assert expected_sum(sums, "thing") == found


def test_a_program_of_its_own_is_fetched(tool, progress, tmp_path):
    assert Downloader(progress).fetch(tool, tmp_path).read_bytes() == PROGRAM


def test_a_program_is_taken_out_of_its_archive(archived, progress, tmp_path):
    assert Downloader(progress).fetch(archived, tmp_path).read_bytes() == PROGRAM


def test_a_changed_file_is_refused_with_both_sums(tool, server, progress, tmp_path):
    server.files["/thing"] = PROGRAM + b"rm -rf /\n"
    with pytest.raises(ChecksumMismatchError) as caught:
        Downloader(progress).fetch(tool, tmp_path)
    for data in (PROGRAM, server.files["/thing"]):
        assert hashlib.sha256(data).hexdigest() in str(caught.value)


@pytest.mark.parametrize("name", ["/thing", "/thing.sha256"])
def test_a_transfer_that_breaks_off_is_a_failure(tool, server, progress, tmp_path, name):
    server.cut.add(name)
    with pytest.raises(DownloadFailedError):
        Downloader(progress).fetch(tool, tmp_path)


def test_an_archive_without_the_program_is_a_failure(archived, progress, tmp_path):
    other = Tool(
        "thing", "v1", Release(archived.release.url, archived.release.sums, "elsewhere/thing"), archived.build
    )
    with pytest.raises(DownloadFailedError, match="elsewhere/thing"):
        Downloader(progress).fetch(other, tmp_path)


def test_an_unreachable_host_is_tried_once_and_named(progress, said, tmp_path, monkeypatch):
    tries = []

    def refuse(address, timeout):
        tries.append((address, timeout))
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(download.socket, "create_connection", refuse)
    release = Release("https://release.example/a", "https://release.example/a.sha256")
    downloader = Downloader(progress)
    for name in ("a", "b"):
        with pytest.raises(DownloadFailedError, match=r"release\.example"):
            downloader.fetch(Tool(name, "v1", release, GoBuild("etcd", "x")), tmp_path)
    assert tries == [(("release.example", 443), 3.0)]
    assert [line for line in said if "release.example" in line] == [
        "release.example cannot be reached from here (refused)"
    ]


def test_behind_a_proxy_it_is_the_proxy_that_must_answer(tool, server, progress, tmp_path, monkeypatch):
    reached = []
    real = socket.create_connection

    def record(address, *rest, **more):
        reached.append(address)
        return real(address, *rest, **more)

    monkeypatch.setattr(download.socket, "create_connection", record)
    monkeypatch.setenv("http_proxy", server.url)
    away = Tool(
        "thing", "v1", Release("http://release.example/thing", "http://release.example/thing.sha256"), tool.build
    )
    with pytest.raises(DownloadFailedError, match="404"):  # our server is no proxy, but it was the one asked
        Downloader(progress).fetch(away, tmp_path)
    assert reached[0] == ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
