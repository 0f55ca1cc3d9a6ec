"""Runs in the guest: the steps of a scenario, one after the other, and prints what came of them as JSON."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "/opt")

from vfio_ap_agent import cli

DESIRED = Path("/tmp/desired.json")  # YAML is JSON's superset; nobody else is in there


def agent(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([*arguments.split(), "-o", "json"])
        except SystemExit as error:
            code = error.code
    text = out.getvalue()
    return {"code": code, "document": json.loads(text) if text else None, "stderr": err.getvalue()}


def shell(command):
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def desire(document, *options):
    DESIRED.write_text(json.dumps(document))
    return agent(" ".join(["apply", "--desired", str(DESIRED), *options]))


def override(document):
    return desire(document, "--queue-control override")


results = {}
for name, kind, what in json.loads(Path(sys.argv[1]).read_text()):
    results[name] = {"sh": shell, "agent": agent, "desire": desire, "override": override}[kind](what)
sys.stdout.write(json.dumps(results))
