"""The command line run on documents in a folder, as people run it on a must-gather."""

import json

import pytest
from click.testing import CliRunner

from vfio_ap_cli.main import commands


@pytest.fixture
def ap(tmp_path, monkeypatch):
    """Run a command on documents and return its result; ``columns`` is the terminal's width."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(documents, *words, columns=120, input=None):
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        for number, document in enumerate(documents):
            name = "must-gather.yaml" if document["kind"] == "MustGather" else f"{number}.json"
            (folder / name).write_text(json.dumps(document))
        arguments = [*words, "--snapshot", str(folder)] if documents else list(words)
        return CliRunner(env={"COLUMNS": str(columns)}).invoke(
            commands, arguments, prog_name="kubectl ap", input=input
        )

    return run
