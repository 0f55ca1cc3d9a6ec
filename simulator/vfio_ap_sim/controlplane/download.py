"""Gets a binary from its project's release server and verifies its checksum before anyone can run it."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import socket
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .errors import ChecksumMismatchError, DownloadFailedError
from .progress import Progress
from .tools import Release, Tool, machine

CONNECT_TIMEOUT = 3.0
"""Seconds to find out that a release server cannot be reached from here."""
READ_TIMEOUT = 60.0
"""Seconds without a byte after which a transfer is given up."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "allow the release server, or put the binaries in a folder and name it in VFIO_AP_BIN_DIR"


def expected_sum(sums: str, name: str) -> str | None:
    """Return the sha256 for file ``name`` in a checksum file of either form, or None when it has none."""
    lines = [line.split() for line in sums.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1 and _SHA256.fullmatch(lines[0][0]):
        return lines[0][0]
    for words in lines:
        if len(words) == 2 and words[1].lstrip("*") == name and _SHA256.fullmatch(words[0]):
            return words[0]
    return None


class Downloader:
    """Downloads release files; a host that could not be reached is not tried again by this object."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._unreachable: dict[str, str] = {}
        self._opener = urllib.request.build_opener()

    def fetch(self, tool: Tool, folder: Path) -> Path:
        """Download, verify and unpack ``tool`` in ``folder``; return the program.

        Raises DownloadFailedError, and ChecksumMismatchError when the file is not the release's.
        """
        release = tool.release
        if release is None:
            raise DownloadFailedError(tool.name, "its project publishes no program", _REMEDY)
        url = release.url.format(arch=machine())
        name = url.rsplit("/", 1)[1]
        sums = self._text(release.sums.format(arch=machine()))
        wanted = expected_sum(sums, name)
        if wanted is None:
            raise DownloadFailedError(tool.name, f"the release's checksum file does not name {name}", _REMEDY)
        part = folder / name
        with self._progress.step(f"downloading {tool.name} {tool.version}"):
            found = self._file(url, part)
        if found != wanted:
            raise ChecksumMismatchError(
                tool.name,
                f"{url} has sha256 {found}, its release says {wanted}",
                "try again; if it stays so, somebody between here and the release server changes files",
            )
        return self._unpack(tool, release, part, folder) if release.member else part

    def _text(self, url: str) -> str:
        self._reach(url)
        try:
            with self._opener.open(url, timeout=READ_TIMEOUT) as answer:
                data: bytes = answer.read()
            return data.decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise DownloadFailedError(url, str(error), _REMEDY) from error

    def _file(self, url: str, part: Path) -> str:
        """Write ``url`` to ``part`` and return its sha256."""
        digest = hashlib.sha256()
        try:
            with self._opener.open(url, timeout=READ_TIMEOUT) as answer, part.open("wb") as out:
                while block := answer.read(1 << 20):
                    digest.update(block)
                    out.write(block)
                # Reading in blocks, http.client is silent about a body that ends early.
                promised, got = answer.headers.get("Content-Length"), out.tell()
                if promised is not None and int(promised) != got:
                    raise OSError(f"broke off after {got} of {promised} bytes")
        except (OSError, http.client.HTTPException) as error:
            raise DownloadFailedError(url, str(error), _REMEDY) from error
        return digest.hexdigest()

    def _reach(self, url: str) -> None:
        """Raise at once when the host of ``url`` does not accept connections.

        A proxy named by the environment is what has to be reached instead.
        """
        parts = urllib.parse.urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        where = f"{host}:{port}"
        if where not in self._unreachable:
            try:
                socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
            except OSError as error:
                self._unreachable[where] = str(error)
                self._progress.say(f"{host} cannot be reached from here ({error})")
        if where in self._unreachable:
            raise DownloadFailedError(host, f"cannot be reached: {self._unreachable[where]}", _REMEDY)

    @staticmethod
    def _unpack(tool: Tool, release: Release, archive: Path, folder: Path) -> Path:
        member = release.member.format(arch=machine())
        program = folder / tool.name
        try:
            with tarfile.open(archive) as tar:
                source = tar.extractfile(member)
                if source is None:
                    raise KeyError(member)
                with source, program.open("wb") as out:
                    shutil.copyfileobj(source, out)
        except (tarfile.TarError, KeyError, OSError) as error:
            raise DownloadFailedError(
                tool.name, f"{archive.name} does not hold {member}: {error}", _REMEDY
            ) from error
        return program
