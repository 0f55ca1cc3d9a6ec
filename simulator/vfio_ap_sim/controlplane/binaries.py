"""Finds each binary: the user's folder, the cache, the release server, and last a build from Go modules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import Cache, cache_root, is_program
from .download import Downloader
from .errors import BinaryUnavailableError, BuildFailedError, DownloadFailedError, NoGoError
from .gobuild import GoBuilder
from .golang import GoFinder
from .progress import Progress
from .tools import TOOLS, Tool

BIN_DIR = "VFIO_AP_BIN_DIR"
"""Environment variable that names a folder with binaries to use as they are."""


@dataclass(frozen=True, slots=True)
class Located:
    """A binary that can be run."""

    name: str
    path: Path
    source: str
    """``folder``, ``cache``, ``download`` or ``build``."""


class Binaries:
    """Gets binaries in order of preference; blocking, and safe against other processes doing the same."""

    def __init__(
        self,
        environ: Mapping[str, str],
        cache: Cache,
        downloader: Downloader,
        builder: GoBuilder,
        progress: Progress,
    ) -> None:
        self._environ = environ
        self._cache = cache
        self._downloader = downloader
        self._builder = builder
        self._progress = progress

    def get(self, tool: Tool) -> Located:
        """Return the binary of ``tool``, getting it first if need be.

        Raises BinaryUnavailableError when no way works, ChecksumMismatchError when a download was tampered with.
        """
        if folder := self._environ.get(BIN_DIR):
            given = Path(folder).expanduser().absolute() / tool.name
            if is_program(given):
                return Located(tool.name, given, "folder")
        if cached := self._cache.find(tool):
            return Located(tool.name, cached, "cache")
        with self._cache.locked(f"{tool.name}-{tool.version}", self._progress):
            # Another run may have put it there while this one waited.
            if cached := self._cache.find(tool):
                return Located(tool.name, cached, "cache")
            return self._obtain(tool)

    def get_all(self, tools: Iterable[Tool] = TOOLS) -> dict[str, Located]:
        """Return the binaries of ``tools`` by name."""
        return {tool.name: self.get(tool) for tool in tools}

    def _obtain(self, tool: Tool) -> Located:
        with self._cache.workspace(tool) as folder:
            try:
                program = self._downloader.fetch(tool, folder)
                return Located(tool.name, self._cache.install(tool, program), "download")
            except DownloadFailedError as error:
                no_download = error
        with self._cache.workspace(tool) as folder:
            try:
                program = self._builder.build(tool, folder)
                return Located(tool.name, self._cache.install(tool, program), "build")
            except (BuildFailedError, NoGoError) as error:
                raise BinaryUnavailableError(
                    f"{tool.name} {tool.version}",
                    f"not in {BIN_DIR} or {self._cache.path(tool)}; "
                    f"download: {no_download.refusal.message}; build: {error.refusal.message}",
                    f"{error.refusal.remedy}, or {no_download.refusal.remedy}",
                ) from error


def default_binaries(progress: Progress | None = None, environ: Mapping[str, str] = os.environ) -> Binaries:
    """Return the finder for this machine and user."""
    progress = progress or Progress()
    cache = Cache(cache_root(environ))
    builder = GoBuilder(GoFinder(cache, environ, progress), environ, progress)
    return Binaries(environ, cache, Downloader(progress), builder, progress)
