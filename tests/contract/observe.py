"""What two kernels are compared by: random writes, and everything that can be seen after each.

Needs only the standard library: it also runs as a program in the guest, where it plays sequences of writes from
stdin on the real files and prints what it saw.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any, Protocol

BUS = "/sys/bus/ap"
MATRIX = "/sys/devices/vfio_ap/matrix"
TYPE = MATRIX + "/mdev_supported_types/vfio_ap-passthrough"
ALL = "0x" + "f" * 64
ADAPTERS = (0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0C)
DOMAINS = (0x04, 0x11, 0x12, 0x47)
ABSENT_ADAPTER, ABSENT_DOMAIN = 0x30, 0x20
QUEUES = tuple(f"{adapter:02x}.{domain:04x}" for adapter in ADAPTERS for domain in DOMAINS)
UUIDS = tuple(f"{c * 8}-{c * 4}-{c * 4}-{c * 4}-{c * 12}" for c in "123")
Write = tuple[str, str]


class Files(Protocol):
    """Files of a kernel; every method answers with an errno's name when the call fails."""

    def read(self, path: str) -> str: ...
    def write(self, path: str, text: str) -> int | str: ...
    def list(self, path: str) -> list[str] | str: ...
    def link(self, path: str) -> str: ...


def sequence(seed: int, length: int) -> list[Write]:
    """Return random writes that get somewhere: adapters are released and mdevs made first."""
    pick = random.Random(seed)
    release = pick.choice(["-5,-6", "-0x0a-0x0c", "\n", "-5-7"])
    writes = [(f"{BUS}/apmask", release), (f"{TYPE}/create", UUIDS[0]), (f"{TYPE}/create", UUIDS[1])]
    kinds = [_mask, _assign, _assign, _assign, _config, _mdev, _bind, _hardware]
    if seed % 3 == 0:
        kinds.append(_override)
    return writes + [pick.choice(kinds)(pick) for _ in range(length)]


def _number(pick: random.Random, number: int) -> str:
    return pick.choice([str(number), hex(number), f"0{number:o}", f"+{number}", f"{number}\n", "256", "08"])


def _hex(ids: list[int]) -> str:
    return f"0x{sum(1 << 255 - number for number in ids):064x}"


def _mask(pick: random.Random) -> Write:
    first = pick.choice((*ADAPTERS, *DOMAINS))
    edits = [f"{pick.choice('+-')}{first},-{pick.choice(DOMAINS):#x}", f"-{first}-{first + pick.randint(-1, 3)}"]
    whole = ["+0-255", ALL, _hex(pick.sample(range(16), 8)), "0x" + "8f" * pick.randint(0, 33), "junk"]
    return f"{BUS}/{pick.choice(['apmask', 'aqmask'])}", pick.choice(edits + whole) + pick.choice(["\n", ""])


def _assign(pick: random.Random) -> Write:
    kind = pick.choice(["adapter", "domain", "control_domain"])
    ids = (*ADAPTERS, ABSENT_ADAPTER) if kind == "adapter" else (*DOMAINS, ABSENT_DOMAIN)
    verb = pick.choice(["assign", "assign", "unassign"])
    return f"{MATRIX}/{pick.choice(UUIDS)}/{verb}_{kind}", _number(pick, pick.choice(ids))


def _config(pick: random.Random) -> Write:
    masks = [_hex(pick.sample(ids, pick.randint(0, 2))) for ids in (ADAPTERS, DOMAINS, DOMAINS)]
    return f"{MATRIX}/{pick.choice(UUIDS)}/ap_config", ",".join(masks) + pick.choice(["\n", "", ",x"])


def _mdev(pick: random.Random) -> Write:
    uuid = pick.choice(UUIDS)
    create = (f"{TYPE}/create", pick.choice([uuid, uuid + "\n", uuid[:-1]]))
    return pick.choice([create, create, (f"{MATRIX}/{uuid}/remove", pick.choice("01x"))])


def _bind(pick: random.Random) -> Write:
    driver = f"{BUS}/drivers/{pick.choice(['vfio_ap', 'cex4queue'])}"
    where = pick.choice([f"{driver}/bind", f"{driver}/unbind", f"{BUS}/drivers_probe"])
    return where, pick.choice(QUEUES)


def _hardware(pick: random.Random) -> Write:
    card = f"{BUS}/devices/card{pick.choice(ADAPTERS):02x}"
    return pick.choice([(f"{card}/config", pick.choice("01")), (f"{card}/online", "1"), (f"{BUS}/scans", "1")])


def _override(pick: random.Random) -> Write:
    return f"{BUS}/devices/{pick.choice(QUEUES)}/driver_override", pick.choice(["vfio_ap", "cex4queue", "\n"])


def snapshot(files: Files) -> dict[str, Any]:
    """Return everything that can be seen, but counters and what interrupts do in their own time."""
    seen: dict[str, Any] = {
        name: files.read(f"{BUS}/{name}") for name in ("apmask", "aqmask", "bindings", "ap_domain")
    }
    for name in files.list(f"{BUS}/devices"):
        path = f"{BUS}/devices/{name}"
        attributes = ("config", "online", "type", "status", "driver_override")
        seen[name] = [
            files.link(path + "/driver"),
            *(files.read(f"{path}/{attribute}") for attribute in attributes),
        ]
        seen[name].append(files.read(f"{path}/request_count") == "-\n")
    for uuid in files.list("/sys/bus/mdev/devices"):
        path = f"{MATRIX}/{uuid}"
        texts = ("matrix", "guest_matrix", "control_domains", "ap_config")
        seen[uuid] = [*(files.read(f"{path}/{text}") for text in texts), files.list(path)]
    seen["available"] = files.read(f"{TYPE}/available_instances")
    return seen


def tidy(files: Files) -> None:
    """Bring a kernel back to where a boot leaves it."""
    for uuid in files.list("/sys/bus/mdev/devices"):
        files.write(f"{MATRIX}/{uuid}/remove", "1")
    for queue in QUEUES:
        files.write(f"{BUS}/devices/{queue}/driver_override", "\n")
    for name in ("apmask", "aqmask"):
        files.write(f"{BUS}/{name}", "+0-255")
    for adapter in ADAPTERS:
        files.write(f"{BUS}/devices/card{adapter:02x}/config", "1")
    files.write(f"{BUS}/scans", "1")
    for queue in QUEUES:
        for driver in ("vfio_ap", "cex4queue"):
            files.write(f"{BUS}/drivers/{driver}/unbind", queue)
        files.write(f"{BUS}/drivers_probe", queue)


def play(files: Files, log: Callable[[], list[str]], writes: list[Write]) -> list[Any]:
    """Return the first view, then for each write its result, log lines and the view after it."""
    views: list[Any] = [snapshot(files)]
    log()
    for path, text in writes:
        result = files.write(path, text)
        views.append([result, log(), snapshot(files)])
    return views


class RealFiles:
    """The files of the kernel that this runs on."""

    def read(self, path: str) -> str:
        return str(self._call(path, os.O_RDONLY, lambda fd: os.read(fd, 8192).decode()))

    def write(self, path: str, text: str) -> int | str:
        result = self._call(path, os.O_WRONLY, lambda fd: os.write(fd, text.encode()))
        return result if isinstance(result, int) else str(result)

    def list(self, path: str) -> list[str] | str:
        return sorted(os.listdir(path))  # noqa: PTH208  # names are wanted

    def link(self, path: str) -> str:
        try:
            return os.readlink(path)  # noqa: PTH115  # the text is wanted
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    @staticmethod
    def _call(path: str, flags: int, act: Callable[[int], object]) -> object:
        try:
            fd = os.open(path, flags)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        try:
            return act(fd)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        finally:
            os.close(fd)


def main() -> None:
    """Play sequences from stdin on this kernel."""
    kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(kmsg, 0, os.SEEK_END)

    def log() -> list[str]:
        lines = []
        while True:
            try:
                lines.append(os.read(kmsg, 8192).decode().split(";", 1)[1].split("\n")[0])
            except BlockingIOError:
                return [line for line in lines if line.startswith("vfio_ap")]

    files, answers = RealFiles(), []
    for writes in json.load(sys.stdin):
        tidy(files)
        answers.append(play(files, log, writes))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
