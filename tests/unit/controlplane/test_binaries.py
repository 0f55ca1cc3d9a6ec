import threading
from pathlib import Path

import pytest

from vfio_ap_sim.controlplane.binaries import Binaries, default_binaries
from vfio_ap_sim.controlplane.cache import Cache, cache_root
from vfio_ap_sim.controlplane.download import Downloader
from vfio_ap_sim.controlplane.errors import (
    BinaryUnavailableError,
    CacheUnusableError,
    ChecksumMismatchError,
)
from vfio_ap_sim.controlplane.gobuild import GoBuilder
from vfio_ap_sim.controlplane.golang import GoFinder
from vfio_ap_sim.controlplane.tools import TOOLS

from .conftest import PROGRAM


@pytest.fixture
def binaries(cache, progress, fake_go):
    def make(environ=None, **go):
        environ = {**fake_go(**go), **(environ or {})}
        builder = GoBuilder(GoFinder(cache, environ, progress), environ, progress)
        return Binaries(environ, cache, Downloader(progress), builder, progress)

    return make


def files_in(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_folder_of_the_user_comes_first(binaries, cache, tool, server, tmp_path):
    mine = program(tmp_path / "mine" / "thing")
    program(cache.path(tool))
    found = binaries({"VFIO_AP_BIN_DIR": str(mine.parent)}).get(tool)
    assert (found.path, found.source) == (mine, "folder")
    assert server.asked == []


def test_the_cache_comes_second_also_when_the_folder_lacks_the_tool(binaries, cache, tool, server, tmp_path):
    cached = program(cache.path(tool))
    found = binaries({"VFIO_AP_BIN_DIR": str(tmp_path)}).get(tool)
    assert (found.path, found.source) == (cached, "cache")
    assert server.asked == []


def test_a_file_that_cannot_be_run_is_not_a_binary(binaries, cache, tool):
    program(cache.path(tool)).chmod(0o644)
    assert binaries().get(tool).source == "download"


@pytest.mark.parametrize("damaged", [b"", b"nonsense", b"\x7fELF", Path("/bin/sh").read_bytes()[:20_000]])
def test_a_damaged_program_is_said_and_got_again(binaries, cache, tool, said, damaged):
    path = program(cache.path(tool))
    path.write_bytes(damaged)
    assert binaries().get(tool).source == "download"
    assert path.read_bytes() == PROGRAM
    assert any(str(path) in line and "passed over" in line for line in said)
    path.write_bytes(Path("/bin/sh").read_bytes())
    assert binaries().get(tool).source == "cache"


def test_a_damaged_program_of_the_users_folder_is_said(binaries, cache, tool, said, tmp_path):
    mine = program(tmp_path / "mine" / "thing", "")
    program(cache.path(tool))
    assert binaries({"VFIO_AP_BIN_DIR": str(mine.parent)}).get(tool).source == "cache"
    assert said == [f"{mine} is no program: it is passed over"]


def test_a_cache_that_cannot_be_written_is_said_with_what_to_do(binaries, cache, tool):
    cache.root.parent.mkdir(parents=True, exist_ok=True)
    cache.root.write_text("a file where the folder should be")
    with pytest.raises(CacheUnusableError) as caught:
        binaries().get(tool)
    assert str(cache.root) in str(caught.value)
    assert "XDG_CACHE_HOME" in caught.value.refusal.remedy


def test_what_is_missing_is_said_before_it_is_got(binaries, tool, said):
    binaries().get_all([tool])
    assert said[0] == "1 of 1 programs are to be got: thing"
    said.clear()
    binaries().get_all([tool])
    assert said == []


def test_the_release_comes_third_and_lands_in_the_cache(binaries, cache, tool):
    found = binaries().get(tool)
    assert (found.path, found.source) == (cache.path(tool), "download")
    assert found.path.read_bytes() == PROGRAM
    assert found.path.stat().st_mode & 0o777 == 0o755
    assert files_in(cache) == [found.path]
    assert binaries().get(tool).source == "cache"


def test_the_build_comes_last(binaries, cache, tool, server):
    server.files.clear()
    found = binaries().get(tool)
    assert (found.path, found.source) == (cache.path(tool), "build")
    arguments = found.path.read_text()
    assert "-X example.com/version=v1" in arguments
    assert "-trimpath" in arguments
    assert arguments.split()[-1] == "example.com/thing"
    assert files_in(cache) == [found.path]


def test_what_a_build_needs_in_between_is_beside_it_and_goes_with_it(binaries, cache, tool, server):
    server.files.clear()
    found = binaries(build='(echo "#!/bin/sh"; echo $GOTMPDIR) > "$out"').get(tool)
    between = Path(found.path.read_text().split()[-1])
    assert cache.root in between.parents
    assert not between.exists()


def test_another_version_is_another_file(cache, tool):
    later = type(tool)(tool.name, "v2", tool.release, tool.build)
    program(cache.path(tool))
    assert cache.find(later) is None


def test_a_changed_download_is_neither_kept_nor_replaced_by_a_build(binaries, cache, tool, server):
    server.files["/thing"] = b"changed"
    with pytest.raises(ChecksumMismatchError):
        binaries().get(tool)
    assert files_in(cache) == []


def test_a_broken_download_leaves_nothing_and_the_build_goes_on(binaries, cache, tool, server):
    server.cut.add("/thing")
    found = binaries().get(tool)
    assert found.source == "build"
    assert files_in(cache) == [found.path]


def test_a_failed_build_leaves_nothing_and_says_both_reasons_and_a_remedy(binaries, cache, tool, server):
    server.files.clear()
    with pytest.raises(BinaryUnavailableError) as caught:
        binaries(build='echo half > "$out"; echo no space left >&2; exit 1').get(tool)
    refusal = caught.value.refusal
    assert refusal.reason == "BinaryUnavailable"
    assert "404" in refusal.message
    assert "no space left" in refusal.message
    assert "GB of disk are free" in refusal.message
    assert "VFIO_AP_BIN_DIR" in refusal.remedy
    assert files_in(cache) == []


def test_a_build_that_ends_well_without_a_program_is_a_failure(binaries, cache, tool, server):
    server.files.clear()
    with pytest.raises(BinaryUnavailableError):
        binaries(build="true").get(tool)
    assert files_in(cache) == []


def test_what_a_killed_run_left_is_not_taken_for_a_program(binaries, cache, tool, server):
    server.files.clear()
    left = program(cache.root / "tmp" / "thing-v1" / "thing")
    with pytest.raises(BinaryUnavailableError):
        binaries(build="true").get(tool)
    assert not left.exists()


def test_two_runs_at_once_build_once(binaries, cache, tool, server, said, tmp_path):
    server.files.clear()
    count, gate = tmp_path / "count", tmp_path / "gate"
    build = f'echo x >> {count}; until [ -e {gate} ]; do sleep 0.02; done; echo "#!/bin/sh" > "$out"'
    first, second = binaries(build=build), binaries(build=build)
    sources: list[str] = []

    def run(it: Binaries) -> None:
        sources.append(it.get(tool).source)

    threads = [threading.Thread(target=run, args=(it,)) for it in (first, second)]
    for thread in threads:
        thread.start()
    waiting = threading.Event()
    for _ in range(500):
        if count.exists() and any("waiting for another run" in line for line in said):
            waiting.set()
            break
        waiting.wait(0.02)
    gate.touch()
    for thread in threads:
        thread.join(20)
    assert waiting.is_set(), "the second run did not say that it waits"
    assert sorted(sources) == ["build", "cache"]
    assert count.read_text() == "x\n"


def test_the_cache_is_where_xdg_says():
    assert cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/vfio-ap-operator")
    assert cache_root({}) == Path.home() / ".cache" / "vfio-ap-operator"


def test_all_six_are_had_by_name(tmp_path, progress):
    for tool in TOOLS:
        program(tmp_path / tool.name)
    found = default_binaries(progress, {"VFIO_AP_BIN_DIR": str(tmp_path)}).get_all()
    assert set(found) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
        "helm",
    }
