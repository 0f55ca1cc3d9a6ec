"""Builds a binary from Go modules, with the go.mod and go.sum of this package.

The only Go code of ours is ``go/kubevirt/manifests``, which prints what KubeVirt's own packages make.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import BuildFailedError
from .golang import GoFinder
from .progress import Progress
from .tools import Tool

MODULES = Path(__file__).parent / "go"
"""Folders with a go.mod and go.sum each."""
ROOM = "8 GB"
"""What Go's caches of modules and objects take in the home folder, and the programs in ours."""


def build_command(go: Path, tool: Tool, output: Path) -> list[str]:
    """Return the ``go build`` command line that writes ``tool`` to ``output``."""
    flags = ["-s", "-w", *(word for name, value in tool.build.variables for word in ("-X", f"{name}={value}"))]
    return [
        str(go),
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        " ".join(flags),
        "-o",
        str(output),
        tool.build.package,
    ]


class GoBuilder:
    """Builds tools with the Go that ``finder`` finds."""

    def __init__(self, finder: GoFinder, environ: Mapping[str, str], progress: Progress) -> None:
        self._finder = finder
        # Without cgo no C compiler is needed, and the result runs wherever the kernel does.
        self._environ = {**environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        self._progress = progress
        self._announced = False

    def build(self, tool: Tool, folder: Path) -> Path:
        """Build ``tool`` in ``folder`` and return the program. Raises BuildFailedError and NoGoError."""
        if not self._announced:
            self._progress.say(
                f"building from Go modules, once; takes {ROOM} of disk and, on two idle cores, a minute a program"
            )
            self._announced = True
        module = folder / "module"
        shutil.copytree(MODULES / tool.build.module, module)
        go = self._finder.find(module)
        program = folder / tool.name
        # Else what a killed build had in /tmp would stay there, and a small /tmp would not do.
        environ = {**self._environ, "GOTMPDIR": str(folder)}
        with self._progress.step(f"building {tool.name} {tool.version} from Go modules"):
            done = subprocess.run(
                build_command(go, tool, program), cwd=module, env=environ, capture_output=True, text=True
            )
        if done.returncode or not program.is_file():
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise BuildFailedError(
                tool.name,
                f"go build ended with {done.returncode}: {' / '.join(said[-5:])}",
                f"see that Go modules can be downloaded (go env GOPROXY) and that {ROOM} of disk are free",
            )
        return program
