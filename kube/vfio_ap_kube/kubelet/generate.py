"""Write the Python code of the ``.proto`` files in this folder.

``python -m vfio_ap_kube.kubelet.generate [ROOT]`` writes below ROOT, which defaults to the folder that holds the
package.
Needs grpcio-tools and grpclib's protoc plugin (the ``dev`` group); nothing at run time imports this module.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
SOURCE_ROOT = PACKAGE.parents[1]


def generate(out: Path) -> list[Path]:
    """Compile every ``.proto`` of this folder below ``out`` and return the files written, sorted.

    Raises:
        RuntimeError: protoc refused a file; its complaint is on stderr.
    """
    from grpc_tools import protoc

    protos = sorted(path.relative_to(SOURCE_ROOT).as_posix() for path in PACKAGE.glob("*.proto"))
    plugin = Path(sys.executable).with_name("protoc-gen-grpclib_python")
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={SOURCE_ROOT}",
            f"--plugin=protoc-gen-grpclib_python={plugin}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpclib_python_out={out}",
            *protos,
        ]
    )
    if code:
        raise RuntimeError(f"protoc ended with {code}")
    written = out / PACKAGE.relative_to(SOURCE_ROOT)
    return sorted(path for pattern in ("*_pb2.py", "*_pb2.pyi", "*_grpc.py") for path in written.glob(pattern))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE_ROOT)
