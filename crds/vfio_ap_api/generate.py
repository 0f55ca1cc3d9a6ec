"""Write the CRDs' YAML: ``python -m vfio_ap_api.generate [--check] DIR...``.

With ``--check`` nothing is written; the exit code is 1 when a file differs from what the models say.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from vfio_ap_api import apmatrix, apmigration, apmigrationpolicy, apnode
from vfio_ap_api.base import GROUP
from vfio_ap_api.crd import Kind, custom_resource_definition

KINDS: tuple[Kind, ...] = (apmatrix.KIND, apmigration.KIND, apmigrationpolicy.KIND, apnode.KIND)
_HEAD = "# Generated from the pydantic models in crds/vfio_ap_api by `make crds`; do not edit.\n"


def render(kind: Kind) -> str:
    """Return the YAML of one kind's CRD."""
    return _HEAD + yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=110)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vfio_ap_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    stale = 0
    for directory in options.directories:
        directory.mkdir(parents=True, exist_ok=True)
        for kind in KINDS:
            path = directory / f"{GROUP}_{kind.plural}.yaml"
            text = render(kind)
            if path.exists() and path.read_text() == text:
                continue
            stale += 1
            if options.check:
                sys.stderr.write(f"{path} is not what the models say: run `make crds` and commit the result\n")
            else:
                path.write_text(text)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
