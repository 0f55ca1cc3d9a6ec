"""Finds each binary: the user's folder, the cache, the release server, and last a build from Go modules."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import Cache, cache_root
from .download import Downloader
from .errors import (
    BinaryUnavailableError,
    BuildFailedError,
    CacheUnusableError,
    DownloadFailedError,
    NoGoError,
)
from .gobuild import GoBuilder
from .golang import GoFinder
from .program import flaw
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

        Raises BinaryUnavailableError when no way works, ChecksumMismatchError when a download was tampered with,
        CacheUnusableError when the cache cannot be written.
        """
        for place in self._places(tool):
            if self._whole(place):
                return Located(tool.name, place, "cache" if place == self._cache.path(tool) else "folder")
        try:
            with self._cache.locked(f"{tool.name}-{tool.version}", self._progress):
                # Another run may have put it there while this one waited.
                if found := self._cache.find(tool):
                    return Located(tool.name, found, "cache")
                return self._obtain(tool)
        except OSError as error:
            raise CacheUnusableError(
                f"{tool.name} {tool.version}",
                f"cannot be put into {self._cache.root}: {error}",
                "make it writable and see that there is room, or name another folder in XDG_CACHE_HOME",
            ) from error

    def _places(self, tool: Tool) -> list[Path]:
        """Return where the tool may be already, in order of preference."""
        cached = self._cache.path(tool)
        folder = self._environ.get(BIN_DIR)
        return [Path(folder).expanduser().absolute() / tool.name, cached] if folder else [cached]

    def _whole(self, path: Path) -> bool:
        """Tell whether the file is a program; say so of one that is there and is none."""
        wrong = flaw(path)
        if wrong and path.exists():
            self._progress.say(f"{path} {wrong}: it is passed over")
        return not wrong

    def get_all(self, tools: Iterable[Tool] = TOOLS) -> dict[str, Located]:
        """Return the binaries of ``tools`` by name. Raises what ``get`` raises."""
        tools = tuple(tools)
        missing = [tool.name for tool in tools if all(flaw(place) for place in self._places(tool))]
        if missing:
            self._progress.say(f"{len(missing)} of {len(tools)} programs are to be got: {', '.join(missing)}")
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
                free = shutil.disk_usage(self._cache.root).free / 1e9
                raise BinaryUnavailableError(
                    f"{tool.name} {tool.version}",
                    f"not in {BIN_DIR} or {self._cache.path(tool)}; "
                    f"download: {no_download.refusal.message}; build: {error.refusal.message}; "
                    f"{free:.1f} GB of disk are free in {self._cache.root}",
                    f"{error.refusal.remedy}, or {no_download.refusal.remedy}",
                ) from error


def default_binaries(progress: Progress | None = None, environ: Mapping[str, str] = os.environ) -> Binaries:
    """Return the finder for this machine and user."""
    progress = progress or Progress()
    cache = Cache(cache_root(environ))
    builder = GoBuilder(GoFinder(cache, environ, progress), environ, progress)
    return Binaries(environ, cache, Downloader(progress), builder, progress)
