"""Replay of what the real migration code answered between two guests (transcripts/migration), command by command.

The transcripts show what was typed, not always what was set up before: the tables say that, from their headings.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Callable, Iterator

import pytest

from vfio_ap_sim.kernel import Control, SysfsError, boot, machine_from
from vfio_ap_sim.kernel.bitmap import mask_of, render
from vfio_ap_sim.kernel.migration import DataFile, Session, State

from .test_transcripts import ROOT

MDEV = "/sys/bus/mdev/devices"
DEVICES = "/sys/bus/ap/devices"
A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
LPAR = ["adapter 5 CEX8C", "adapter 6 CEX8P", "adapter 7 CEX8A", "usage 4,0x11,0x12", "control 4,0x11,0x12,5"]
FUNCTIONS = {"C": 0x93000000, "P": 0x87000000, "A": 0xEB000000}
SLCF = 0x01000000
G1 = bytes.fromhex(
    "766661700000000100000004000000000800400000000000000000000000000000000000000000000000000000000000"
    "000000000eff03070504000000000000000000000eff03070511000000000000"
    "000000000eff03070604000000000000000000000eff03070611000000000000"
)
HEADING = re.compile(r"=== ([^:]+): (.*)")
SIDE = re.compile(r"--- (source|target) \[(\w+): adapters (\[.*?\]) domains (\[.*?\]) control (\[.*?\])\]")
Config = tuple[list[int], list[int], list[int]]
FOUR: Config = ([5, 6], [4, 0x11], [4, 0x11])
SETUP: dict[str, Config] = {"B": ([7], [4], []), "P": ([7], [4], []), "C1": ([7], [4], []), "O5": ([], [], [])}
"""What A has where the transcript does not say: by case, or by the case's letter; else FOUR."""
WITHOUT_6 = {"O5", "O5b"}
UNSUPPORTED = {"H12": "an adapter of a type newer than CEX8"}
"""Cases that the model has no hardware for."""
NOT_PLAYED = ("sh", "race", "info", "feat")
"""Commands that look at something else than the migration interface, or need two threads."""
BLOBS: dict[str, Callable[[bytes], bytes]] = {
    "B1": lambda blob: blob[:111],
    "B1b": lambda blob: blob[:48],
    "B1c": lambda blob: blob[:8],
    "B1d": lambda blob: b"",
    "B1e": lambda blob: blob[:64],
    "B3": lambda blob: b"\xff" * 112,
    "B3b": lambda blob: b"\xff" * 112,
    "B3c": lambda blob: b"\xff" * 112,
    "B3d": lambda blob: (b"This is not a stream. " * 6)[:112],
    "B4": lambda blob: b"XXXX" + blob[4:],
    "B4b": lambda blob: b"XXXX" + blob[4:],
    "B4c": lambda blob: b"XXXX" + blob[4:],
    "B4d": lambda blob: b"XXXX" + blob[4:],
    "B5": lambda blob: blob[:7] + b"\2" + blob[8:],
    "B5b": lambda blob: blob[:7] + b"\2" + blob[8:],
    "B6": lambda blob: blob[3::-1] + blob[7:3:-1] + blob[11:7:-1] + blob[12:],
    "B7": lambda blob: blob[:8] + (65537).to_bytes(4, "big") + blob[12:],
    "B7b": lambda blob: blob[:8] + (65537).to_bytes(4, "big") + blob[12:],
    "B7c": lambda blob: blob[:8] + (65536).to_bytes(4, "big") + blob[12:],
    "B8": lambda blob: blob[:8] + (5).to_bytes(4, "big") + blob[12:],
    "B9": lambda blob: blob + b"\0",
    "B9b": lambda blob: blob + b"\0",
    "B10": lambda blob: blob[:48] + blob[48:64] * 4,
    "B11": lambda blob: blob[:12] + b"\xff" * 4 + blob[16:58] + b"\xff" * 6 + blob[64:],
    "B12": lambda blob: blob[:47] + b"\1" + blob[48:],
    "B13": lambda blob: blob[:8] + bytes(40),
}
"""What the writer made of the stream, by case."""


class Host:
    """One side: a machine, its mdev and the program that had the device open."""

    def __init__(self, lines: list[str], profile: str, blob: bytes) -> None:
        self.control: Control = boot(machine_from(machine(lines)), profile)
        self.kernel = self.control.kernel
        self.kernel.write("/sys/bus/ap/apmask", "\n")
        self.blob = blob
        self.uuid = A
        self.files: list[DataFile] = []
        self.log: list[str] = []
        self.kernel.log.subscribe(lambda line: self.log.append(line.text))

    def configure(self, uuid: str, config: Config) -> None:
        """Make an mdev and assign."""
        self.uuid = uuid
        self.kernel.write("/sys/class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough/create", uuid)
        masks = ",".join(render(mask_of(ids)) for ids in config)
        self.kernel.write(f"{MDEV}/{uuid}/ap_config", masks)

    def opendev(self) -> None:
        self.control.start_guest("vm", self.uuid)
        self.session = Session(self.control, self.uuid)
        self.log.clear()

    def closedev(self) -> None:
        self.control.stop_guest("vm")

    # the program's commands; each returns the lines that it printed

    def run(self, command: str) -> list[str]:
        name, _, rest = command.partition(" ")
        try:
            return [f"  {line}" for line in getattr(self, f"do_{name}")(*rest.split())]
        except SysfsError as error:
            return [f"  {words(error)}"]

    def do_get(self) -> Iterator[str]:
        yield f"state={self.session.state().name}"

    def do_set(self, wanted: str) -> Iterator[str]:
        number = State[wanted] if wanted in State.__members__ else int(wanted)
        try:
            file = self.session.set_state(number)
        except SysfsError as error:
            yield f"{words(error)} state={self.session.state().name}"
            return
        if file is not None:
            self.files.append(file)
        yield f"ok data_fd={'yes' if file else -1} state={self.session.state().name}"

    def do_size(self) -> Iterator[str]:
        yield f"stop_copy_length={self.session.data_size()}"

    def do_read(self, _name: str, piece: str = "65536", most: str = "65536") -> Iterator[str]:
        blob, lengths = b"", []
        while len(blob) < int(most) and 0 not in lengths:
            part = self.session.read(self.files[-1], int(piece))
            blob += part
            lengths.append(len(part))
        self.blob = blob
        yield f"read {lengths} = {len(blob)} bytes"

    def do_write(self, _name: str, pieces: str = "1048576") -> list[str]:
        sizes, at, lines = [int(size) for size in pieces.split(",")], 0, []
        while at < len(self.blob) and "(" not in "".join(lines[-1:]):
            size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
            lines += self.do_wbytes(self.blob[at : at + size].hex())
            at += size
        return [*lines[:2], f"... {len(lines) - 4} more ...", *lines[-2:]] if len(lines) > 8 else lines

    def do_wbytes(self, text: str) -> list[str]:
        data = bytes.fromhex(text)
        try:
            return [f"write {len(data)} -> {self.session.write(self.files[-1], data)}"]
        except SysfsError as error:
            return [f"write {len(data)} -> {words(error)}"]

    def do_w0(self) -> list[str]:
        return self.do_wbytes("")

    def do_rdraw(self) -> list[str]:
        self.session.read(self.files[-1], 16)
        return ["ok"]

    def do_lseek(self) -> list[str]:
        self.files[-1].seek()
        return ["ok"]

    do_pread = do_pwrite = do_lseek

    def do_reset(self) -> Iterator[str]:
        self.control.reset_guest("vm").result()
        yield f"ok state={self.session.state().name}"

    def do_usefd(self, number: str) -> Iterator[str]:
        self.files.append(self.files[int(number)])
        yield "ok"

    def do_closefd(self) -> Iterator[str]:
        self.session.close(self.files[-1])
        yield "ok"

    def do_closedev(self) -> Iterator[str]:
        self.closedev()
        yield "ok"

    def do_opendev(self) -> Iterator[str]:
        self.control.start_guest("vm", self.uuid)
        yield "ok"

    def do_kmsg(self) -> list[str]:
        said = [line for line in self.log if line.startswith("vfio_ap")]
        self.log.clear()
        return [f"kmsg: {line}" for line in said] or ["kmsg: (nothing)"]

    def do_state(self, full: str = "") -> Iterator[str]:
        read = {name: self.kernel.read(f"{MDEV}/{self.uuid}/{name}") for name in SHOWN}
        masks = read["ap_config"].strip().split(",")
        if not full:
            masks = [mask.rstrip("0") if mask.strip("0x") else "0x0" for mask in masks]
        lists = (f"{name}[{' '.join(read[name].split()) or '(empty)'}]" for name in SHOWN[:3])
        yield f"{self.uuid[:8]} {' '.join(lists)} ap_config[{','.join(masks)}]"
        bound = [
            name for name in self.kernel.list("/sys/bus/ap/drivers/vfio_ap") if name in read["matrix"].split()
        ]
        states = (f"{name}={self.kernel.read(f'{DEVICES}/{name}/status').strip()}" for name in bound)
        yield f"status {', '.join(states) or '(none assigned)'}"


SHOWN = ("matrix", "guest_matrix", "control_domains", "ap_config")


def words(error: SysfsError) -> str:
    """As the program words an error."""
    return f"{errno.errorcode[error.errno]} ({os.strerror(error.errno)})"


def machine(lines: list[str]) -> dict[str, object]:
    """The machine file for the lines of an ap.conf."""
    document: dict[str, object] = {}
    adapters: list[dict[str, object]] = []
    for line in lines:
        word, *rest = line.split()
        if word == "adapter":
            options = dict(option.split("=") for option in rest[2:])
            usual = FUNCTIONS[rest[1][-1]] & ~(SLCF if rest[1] < "CEX7" else 0)
            functions = int(options.get("func", str(usual)), 0)
            depth = int(options.get("depth", "8"))
            adapters.append({"id": rest[0], "type": rest[1], "functions": functions, "depth": depth})
        else:
            document[f"{word}Domains"] = rest[0]
    return {**document, "adapters": adapters}


def cases(name: str) -> dict[str, list[str]]:
    """The cases of a transcript by their ids."""
    path = ROOT / "transcripts" / "migration" / name
    if not path.exists():
        pytest.skip(f"no {path}: set AP_REAL_KERNEL to the directory that has transcripts/")
    found: dict[str, list[str]] = {}
    for line in path.read_text().split("\n"):
        if match := HEADING.match(line):
            lines = found.setdefault(match[1], [])
        elif found:
            lines.append(line)
    return found


class Case:
    """One case, played."""

    def __init__(self, name: str, lines: list[str], profile: str, blob: bytes) -> None:
        self.name, self.lines, self.profile = name, lines, profile
        self.blob = blob
        self.compared = 0
        self.differences: list[str] = []
        self.host: Host | None = None

    def play(self) -> None:
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            at += 1
            if line.startswith("---"):
                self.begin(line, [conf for conf in self.lines[at : at + 8] if CONF.match(conf)])
            elif line.startswith("opened"):
                self.open(line.split()[1])
            elif line.startswith("> "):
                end = next(
                    (i for i in range(at, len(self.lines)) if not self.lines[i].startswith("  ")), len(self.lines)
                )
                self.command(line[2:], self.lines[at:end])
                at = end

    def begin(self, line: str, conf: list[str]) -> None:
        """Begin a block: another host, or the next open on this one."""
        if self.host is not None:
            self.host.closedev()
            self.blob = self.host.blob
        if match := SIDE.match(line):
            config = [[int(str(n), 0) for n in ast.literal_eval(text)] for text in match.groups()[2:]]
            blob = BLOBS.get(self.name, bytes)(self.blob)
            self.host = Host(conf if "ap.conf" in line else LPAR, self.profile, blob)
            self.host.configure(A, (config[0], config[1], config[2]))
            if self.name == "G8b" and match[1] == "source":
                self.host.kernel.write("/sys/bus/ap/drivers/vfio_ap/unbind", "06.0011")
        elif "adapter 6 back" in line:
            assert self.host is not None
            self.host.control.plug(6, "CEX8P")

    def open(self, short: str) -> None:
        """The program opened the device."""
        if self.host is None or not self.host.kernel.list(MDEV) or short != self.host.uuid[:8]:
            self.host = Host(LPAR, self.profile, BLOBS.get(self.name, bytes)(self.blob))
            if self.name in WITHOUT_6:
                self.host.control.unplug(6)
            usual = ([], [], []) if short != A[:8] or self.name in WITHOUT_6 else FOUR
            self.host.configure(A if short == A[:8] else B, SETUP.get(self.name, SETUP.get(self.name[0], usual)))
            if self.name == "R3":
                self.host.control.deconfigure(5)
        self.host.opendev()

    def command(self, command: str, expected: list[str]) -> None:
        """Play one command and compare what it printed."""
        if command.startswith(("# ", *NOT_PLAYED)):
            return
        assert self.host is not None
        self.compared += 1
        seen = self.host.run(command)
        if seen != expected:
            self.differences.append(f"{self.name}: {command}: real {expected}, model {seen}")


CONF = re.compile(r"(adapter|usage|control) ")


@pytest.mark.parametrize(
    ("name", "profile", "commands"),
    [
        ("01-good.txt", "MIGv4PLUS", 130),
        ("02-compat-asis.txt", "MIGv4PLUS", 180),
        ("02-compat-tbit.txt", "MIGv4PLUS-T", 180),
        ("04-states.txt", "MIGv4PLUS", 200),
        ("05-streams.txt", "MIGv4PLUS", 190),
    ],
)
def test_the_model_migrates_as_the_real_code_did(name: str, profile: str, commands: int) -> None:
    differences, compared, blob = [], 0, G1
    for case, lines in cases(name).items():
        if case in UNSUPPORTED:
            continue
        played = Case(case, lines, profile, blob)
        played.play()
        differences += played.differences
        compared += played.compared
        if case == "G1":
            assert played.host is not None
            assert played.host.blob == G1
    assert not differences, "\n".join(differences)
    assert compared > commands
