"""Replay of what real kernels answered (the transcripts of inventory, masks and mdevs) against the model.

The transcripts are not part of this repository: AP_REAL_KERNEL names the directory that has them, else it is
looked for beside the repository. Compared are writes, file contents, modes, drivers, mdevs and kernel log lines.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from pathlib import Path

import pytest

from vfio_ap.host.ops import Failed, Write, Written
from vfio_ap_sim.kernel import boot, machine_from

ROOT = Path(os.environ.get("AP_REAL_KERNEL") or Path(__file__).parents[3] / "shared/real-kernel")
PROFILES = {"7.2": "K7.1", "6.12": "K6.12"}
LPAR = {
    "adapters": [
        {"id": 0x05, "type": "CEX8C", "functions": 0x93000000},
        {"id": 0x06, "type": "CEX8P", "functions": 0x87000000},
        {"id": 0x07, "type": "CEX8A", "functions": 0xEB000000},
        {"id": 0x0A, "type": "CEX7C", "functions": 0x93000000},
        {"id": 0x0B, "type": "CEX6P", "functions": 0x87000000},
        {"id": 0x0C, "type": "CEX5A", "functions": 0xEB000000},
    ],
    "usageDomains": "0x04,0x11,0x12,0x47",
    "controlDomains": "0x04,0x11,0x12,0x47,0x05",
}
BUS = "/sys/bus/ap"
DEVICES = f"{BUS}/devices"
MDEV = "/sys/bus/mdev/devices"
ONE, TWO = f"{MDEV}/11111111-1111-1111-1111-111111111111", f"{MDEV}/22222222-2222-2222-2222-222222222222"
FULL = (f"{BUS}/apmask", "+0-255")
ODD_FORMS = "=== rejected and odd forms"
QUIET = {
    f"  {ONE}/matrix 05.|08.|ff.": [(f"{ONE}/unassign_adapter", number) for number in ("8", "5", "255")],
    "=== matrix of 3 x 3": [(f"{TWO}/unassign_adapter", "6")],
}
"""Writes of the scripts that the transcripts do not show, by the line after which they were made."""
ATTRIBUTES = {
    "=== /sys/bus/ap attributes (mode name content)": BUS,
    "=== card05 (CEX8C)": f"{DEVICES}/card05",
    "=== card06 (CEX8P)": f"{DEVICES}/card06",
    "=== card07 (CEX8A)": f"{DEVICES}/card07",
    "=== queue 05.0004 bound to cex4queue (CCA)": f"{DEVICES}/05.0004",
    "=== queue 06.0004 bound to cex4queue (EP11)": f"{DEVICES}/06.0004",
    "=== queue 07.0004 bound to cex4queue (accelerator)": f"{DEVICES}/07.0004",
    "=== queue bound to vfio_ap: attributes": f"{DEVICES}/05.0011",
    "=== card whose queues are all in vfio_ap: attributes": f"{DEVICES}/card05",
}
"""Headings of attribute lists, and their directories."""
NO_CRYPTO = {"serialnr", "mkvps", "FW_version", "API_ordinalnr", "op_modes"}
"""Attributes that need crypto requests to succeed, which they did not on the emulated adapters."""
COUNTERS = {"request_count"}
WRITE = re.compile(r"# echo (-n )?(.+) > (/sys/\S+)$")
ANSWER = re.compile(r"  (?:write|open \S+) -> (?:-1 )?(\w+)")
CONTENT = re.compile(r"  (/sys/\S+[^\s:]) +(.*)$")
DRIVER = re.compile(r"  (\w\w\.\w{4}) driver=(\w*)$")
QUEUES = re.compile(r"  (cex4queue|vfio_ap|\(none\)): (.*)$")
ATTRIBUTE = re.compile(r"  ([0-7]{3}) (\S+) +(.*)$")


class Replay:
    """Plays a transcript line by line and notes where the model answers otherwise."""

    def __init__(self, release: str, name: str) -> None:
        path = ROOT / "transcripts" / release / name
        if not path.exists():
            pytest.skip(f"no {path}: set AP_REAL_KERNEL to the directory that has transcripts/")
        self.lines = path.read_text().split("\n")
        self.control = boot(machine_from(LPAR), PROFILES[release])
        self.kernel = self.control.kernel
        self.differences: list[str] = []
        self.compared = 0
        self.heading = ""
        self.log: list[str] = []
        self.kernel.log.subscribe(lambda line: self.log.append(line.text))

    def check(self, what: str, real: object, model: object) -> None:
        """Compare."""
        self.compared += 1
        if real != model:
            self.differences.append(f"{self.heading}: {what}: real {real!r}, model {model!r}")

    def play(self) -> None:
        """Play everything that has a counterpart in the model."""
        for number, line in enumerate(self.lines):
            if line.startswith("==="):
                self.heading = line
            elif line.startswith("# "):
                self.command(line, self.lines[number + 1])
            elif line.startswith("  kmsg: "):
                self.check("log", line.removeprefix("  kmsg: "), self.log.pop(0) if self.log else None)
            elif line.startswith("  mdev "):
                self.check("mdev", line.strip(), self.mdev_line(line.split()[1]))
            elif match := CONTENT.match(line):
                self.check(match[1], match[2].strip(), self.content(match[1]))
            elif match := DRIVER.match(line):
                self.check(match[1], match[2], self.driver(match[1]))
            elif match := QUEUES.match(line):
                self.check(match[1], match[2].split(), self.queues_of("" if match[1] == "(none)" else match[1]))
            elif (match := ATTRIBUTE.match(line)) and self.heading in ATTRIBUTES:
                self.attribute(ATTRIBUTES[self.heading], match[1], match[2], [match[3], *self.more(number)])
            self.quiet(line)

    def more(self, number: int) -> list[str]:
        """Return the continuation lines of an attribute's content."""
        lines = []
        for line in self.lines[number + 1 :]:
            if not line.startswith(" " * 30):
                break
            lines.append(line.strip())
        return lines

    def command(self, line: str, answer: str) -> None:
        """Play a command that the model can play."""
        if match := WRITE.match(line):
            quoted = match[2]
            text = str(ast.literal_eval(quoted[1:])) if quoted.startswith("$") else "".join(shlex.split(quoted))
            real = ANSWER.match(answer)
            assert real is not None, (line, answer)
            self.check(line, real[1], self.write(match[3], text if match[1] else text + "\n"))
        elif line.startswith("# rmmod"):
            self.control.unload()
        elif line.startswith("# modprobe"):
            self.control.load()
        elif line.startswith("# (echo -5; echo -6)"):
            self.write(f"{BUS}/apmask", "-5\n")
            self.write(f"{BUS}/apmask", "-6\n")

    def quiet(self, line: str) -> None:
        """Play what the script did without telling."""
        for path, text in QUIET.get(line, []):
            assert self.write(path, text).isdigit()
        if self.heading == ODD_FORMS and CONTENT.match(line):
            self.write(*FULL)

    def write(self, path: str, text: str) -> str:
        """Return what the transcript would say of a write."""
        result = self.kernel.call(Write(path, text.encode()))
        if isinstance(result, Written):
            return str(result.count)
        assert isinstance(result, Failed)
        return result.name

    def content(self, path: str) -> str:
        """Return a file's lines joined by | as the transcripts have them."""
        try:
            return self.kernel.read(path).rstrip("\n").replace("\n", "|")
        except OSError as error:
            return f"cat: {path}: {os.strerror(error.errno or 0)}"

    def attribute(self, directory: str, mode: str, name: str, lines: list[str]) -> None:
        """Compare mode and content of one attribute."""
        path = f"{directory}/{name}"
        self.check(f"mode of {path}", mode, f"{self.kernel.mode(path):03o}")
        if mode != "200" and name not in NO_CRYPTO | COUNTERS:
            self.check(path, "|".join(lines).strip(), self.content(path))

    def driver(self, queue: str) -> str:
        """Return the name of a queue's driver, or nothing."""
        bound = "driver" in self.kernel.list(f"{DEVICES}/{queue}")
        return self.kernel.link(f"{DEVICES}/{queue}/driver").rpartition("/")[2] if bound else ""

    def queues_of(self, driver: str) -> list[str]:
        """Return the queues that a driver has."""
        return [name for name in self.kernel.list(DEVICES) if "." in name and self.driver(name) == driver]

    def mdev_line(self, short: str) -> str:
        """Return the scripts' line about an mdev."""
        uuid = next(uuid for uuid in self.kernel.list(MDEV) if uuid.startswith(short))
        names = ("matrix", "guest_matrix", "control_domains")
        lists = [self.kernel.read(f"{MDEV}/{uuid}/{name}").replace("\n", " ") for name in names]
        return "mdev {} matrix=[{}] guest_matrix=[{}] control=[{}]".format(short, *lists)


@pytest.mark.parametrize("release", PROFILES)
@pytest.mark.parametrize(
    ("name", "comparisons"), [("01-inventory.txt", 120), ("02-masks.txt", 190), ("03-mdev.txt", 230)]
)
def test_the_model_answers_as_the_real_kernel(release: str, name: str, comparisons: int) -> None:
    replay = Replay(release, name)
    replay.play()
    assert not replay.differences, "\n".join(replay.differences)
    assert replay.compared > comparisons
