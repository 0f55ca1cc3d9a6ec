"""The examples of docs/cli.md: each command of the page is run on the cluster of ``world``.

``python -m tests.unit.cli.page`` writes the outputs into the page anew.
"""

import json
import os
import re
import tempfile
from pathlib import Path

from click.testing import CliRunner

from vfio_ap_cli.main import commands

from .world import OTHER, apnode, cluster, device, lease, matrix, pod, replaced, vm, vmi

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
COLUMNS = "100"
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def documents():
    """Return the cluster of the page: a second VM waits, one matrix is refused, one agent is silent."""
    held = device("vault", OTHER, "6", "5-6")
    silent = lease("lnx4", renewed="2026-11-21T11:52:00Z")
    greedy = matrix("greedy", [5, 6], [4], uuid="", created="2026-11-21T12:01:00Z")
    second = [
        vm("second", "payments", status="Starting"),
        vmi("second", "payments", phase="Scheduling"),
        pod("second", "payments", gated=True),
    ]
    lost = replaced(cluster(), apnode("lnx4", mdevs=[held], machine="D4004", lpar="LNX4"), silent)
    node = json.loads(json.dumps(next(d for d in lost if d["kind"] == "Node")))
    node["metadata"]["name"] = node["metadata"]["labels"]["kubernetes.io/hostname"] = "lnx4"
    vault = matrix("vault", [6], ["5-6"], OTHER)
    return [*lost, node, greedy, vault, *second]


def rendered(text):
    """Return the page with what its commands say now."""
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder) / "must-gather"
        snapshot.mkdir()
        for number, document in enumerate(documents()):
            name = "must-gather.yaml" if document["kind"] == "MustGather" else f"{number}.json"
            (snapshot / name).write_text(json.dumps(document))
        for kind, block in _BLOCK.findall(text):
            if kind == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block)):
                (Path(folder) / name[1]).write_text(block)
        before = Path.cwd()
        os.chdir(folder)
        try:
            return _BLOCK.sub(lambda found: _answered(found, snapshot), text)
        finally:
            os.chdir(before)


def _answered(found, snapshot):
    kind, block = found.groups()
    if kind != "console":
        return found[0]
    (line,) = [line for line in block.splitlines() if line.startswith("$ ")]
    words = line.removeprefix("$ kubectl ap ").split()
    done = CliRunner(env={"COLUMNS": COLUMNS}).invoke(
        commands, [*words, "--snapshot", str(snapshot)], prog_name="kubectl ap"
    )
    said = done.output.replace(str(snapshot), "must-gather.tar.gz").strip("\n")
    code = f"\n[exit code {done.exit_code}]" if done.exit_code else ""
    return f"```console\n{line}\n{said}{code}\n```"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
