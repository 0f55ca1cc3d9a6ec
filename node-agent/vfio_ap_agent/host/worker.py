"""The expendable process that touches the real file system: frames in on stdin, frames out on stdout.

It may be killed at any time, or hang in the kernel beyond killing (V-34), so it holds nothing and knows nothing:
it imports no more than it needs, obeys one batch at a time and ends when its stdin closes.

Started as ``python -I worker.py [SYS]``, where SYS is a directory that stands for /sys. If SYS/../proc/sysinfo
exists, the directories proc and dev beside SYS stand for /proc and /dev as well.
"""

# ruff: noqa: PTH110, PTH115, PTH120, PTH208
# pathlib would be most of what this process loads

import errno
import json
import os
import struct
import sys

_LENGTH = struct.Struct(">I")
_PAGE = 65536


def place(path: str, root: str) -> str:
    """Return where a host's path is found when ``root`` stands for its /sys."""
    if not root:
        return path
    if path == "/sys" or path.startswith("/sys/"):
        return root + path[4:]
    beside = os.path.dirname(root)
    return beside + path if os.path.exists(beside + "/proc/sysinfo") else path


def perform(item: list[str], root: str) -> list[object]:
    """Carry out one operation in wire form and return its result in wire form."""
    path = place(item[1], root)
    try:
        if item[0] == "read":
            return ["data", read(path).decode("latin-1")]
        if item[0] == "write":
            return ["written", write(path, item[2].encode("latin-1"))]
        if item[0] == "list":
            return ["names", sorted(os.listdir(path))]
        return ["target", os.readlink(path)]
    except OSError as error:
        return ["failed", error.errno or errno.EIO]


def read(path: str) -> bytes:
    """Return the content of a file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts = []
        while part := os.read(file, _PAGE):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def write(path: str, data: bytes) -> int:
    """Write once, unbuffered, without creating or truncating; return what the kernel took (S-4)."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.write(file, data)
    finally:
        os.close(file)


def exactly(size: int) -> bytes:
    """Return that many bytes of stdin; end the process when there are no more."""
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def main() -> None:
    """Serve batches until stdin closes."""
    root = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else ""
    while True:
        batch = json.loads(exactly(_LENGTH.unpack(exactly(4))[0]))
        results = [perform(item, root) for item in batch["ops"]]
        body = json.dumps({"id": batch["id"], "results": results}, separators=(",", ":")).encode()
        frame = _LENGTH.pack(len(body)) + body
        while frame:
            frame = frame[os.write(1, frame) :]


if __name__ == "__main__":
    main()
