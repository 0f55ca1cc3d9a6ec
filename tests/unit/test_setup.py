"""tools/setup.sh with a Python that is a shell script: what is left behind half-made never stays."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "setup.sh"
WHOLE = '#!/bin/sh\necho "$@" >> {log}\n'
WITHOUT_PIP = "#!/bin/sh\nexit 1\n"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    """A project of one member; ``make`` runs the script there with a python3 whose venv does as told."""
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "pyproject.toml").write_text("")

    def make(venv: str = "good") -> subprocess.CompletedProcess[str]:
        whole = WHOLE.format(log=tmp_path / "log")
        program(tmp_path / "whole", whole)
        program(tmp_path / "half", WITHOUT_PIP)
        kind, code = ("whole", 0) if venv == "good" else ("half", 1)
        program(
            tmp_path / "bin" / "python3",
            f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] || exit 0\n'
            f"echo venv >> {tmp_path}/log; mkdir -p .venv/bin\n"
            f"cp {tmp_path}/{kind} .venv/bin/python; exit {code}\n",
        )
        environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        command = [str(SCRIPT), ".venv", "core"]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)

    return make


def did(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_the_environment_is_made_once(project, tmp_path):
    assert project().returncode == 0
    assert did(tmp_path)[0] == "venv"
    assert did(tmp_path)[-1].endswith("-e./core")
    before = did(tmp_path)
    again = project()
    assert (again.returncode, again.stdout, did(tmp_path)) == (0, "", before)


def test_a_python_without_venv_is_said_and_what_it_left_is_not_taken_for_an_environment(project, tmp_path):
    failed = project(venv="bad")
    assert failed.returncode == 1
    assert "apt install python3-venv" in failed.stderr
    assert not (tmp_path / ".venv").exists()
    assert project().returncode == 0


def test_an_environment_that_was_cut_short_before_it_had_pip_is_made_again(project, tmp_path):
    program(tmp_path / ".venv" / "bin" / "python", WITHOUT_PIP)
    assert project().returncode == 0
    assert "venv" in did(tmp_path)


def test_an_environment_with_pip_is_brought_up_to_date_and_not_made_anew(project, tmp_path):
    assert project().returncode == 0
    newer = (tmp_path / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(tmp_path / "requirements.lock", (newer, newer))
    assert project().returncode == 0
    assert did(tmp_path).count("venv") == 1
    assert sum("--require-hashes" in line for line in did(tmp_path)) == 2
