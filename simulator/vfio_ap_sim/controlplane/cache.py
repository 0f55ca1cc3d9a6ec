"""The cache of binaries: one folder per tool and version, filled atomically by one process at a time.

It does not know where a binary comes from.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .program import flaw
from .progress import Progress
from .tools import Tool


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return the project's cache folder: ``$XDG_CACHE_HOME`` or ``~/.cache``, then ``vfio-ap-operator``."""
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vfio-ap-operator"


class Cache:
    """Binaries under ``root/bin/<tool>-<version>/<name>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, tool: Tool) -> Path:
        """Return where the tool's binary is, or would be."""
        return self.root / "bin" / f"{tool.name}-{tool.version}" / tool.name

    def find(self, tool: Tool) -> Path | None:
        """Return the tool's binary if the cache has it whole."""
        path = self.path(tool)
        return None if flaw(path) else path

    @contextmanager
    def locked(self, name: str, progress: Progress) -> Iterator[None]:
        """Hold the lock ``name`` against other processes and threads; say so when there is a wait."""
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{name}.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with progress.step(f"waiting for another run that gets {name}"):
                    fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def workspace(self, tool: Tool) -> Iterator[Path]:
        """Give an empty folder on the cache's own file system, so that a rename out of it is atomic.

        The caller holds the tool's lock: what a killed run left there is removed first.
        """
        folder = self.root / "tmp" / f"{tool.name}-{tool.version}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def install(self, tool: Tool, program: Path) -> Path:
        """Move a complete ``program`` from a workspace to its place and return the place."""
        target = self.path(tool)
        program.chmod(0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        program.replace(target)
        return target
