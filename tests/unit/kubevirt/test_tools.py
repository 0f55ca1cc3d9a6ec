import os
import re
import subprocess
import sys

import pytest

from vfio_ap_sim.controlplane import DownloadFailedError
from vfio_ap_sim.controlplane.download import Downloader
from vfio_ap_sim.controlplane.gobuild import MODULES
from vfio_ap_sim.controlplane.progress import Progress
from vfio_ap_sim.controlplane.tools import KUBEVIRT, MANIFESTS, OPTIONAL, TOOLS, VIRT_API

GO_MOD = (MODULES / "kubevirt" / "go.mod").read_text()


def test_the_module_pins_the_version_of_the_tools():
    assert re.search(rf"^\tkubevirt\.io/kubevirt {re.escape(KUBEVIRT)}$", GO_MOD, re.M)
    assert {tool.version for tool in OPTIONAL} == {KUBEVIRT, MANIFESTS}
    assert f"kubevirt.io/kubevirt {KUBEVIRT} h1:" in (MODULES / "kubevirt" / "go.sum").read_text()


def test_kubevirts_own_modules_replace_its_staging_folders():
    replaced = dict(re.findall(r"^\t(kubevirt\.io/\S+) => (.+)$", GO_MOD, re.M))
    own = ("kubevirt.io/api", "kubevirt.io/client-go")
    assert replaced == {module: f"{module} {KUBEVIRT}" for module in own}


def test_each_program_has_a_package_in_the_module():
    for tool in OPTIONAL:
        package = tool.build.package
        if package.startswith("./"):
            assert (MODULES / "kubevirt" / package / "main.go").is_file()
        else:
            assert re.search(rf"^\t{re.escape(package)}$", GO_MOD, re.M)


def test_virt_api_says_the_version_it_was_built_from():
    assert ("kubevirt.io/client-go/version.gitVersion", KUBEVIRT) in VIRT_API.build.variables


def test_the_binaries_of_kubevirt_are_had_when_all_are_asked_for(tmp_path):
    for tool in TOOLS + OPTIONAL:
        (tmp_path / tool.name).write_text("#!/bin/sh\n")
        (tmp_path / tool.name).chmod(0o755)
    command = [sys.executable, "-m", "vfio_ap_sim.controlplane", "binaries"]
    environ = {**os.environ, "VFIO_AP_BIN_DIR": str(tmp_path)}
    for more, tools in (([], TOOLS), (["--all"], TOOLS + OPTIONAL)):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, env=environ, timeout=60, check=True
        )
        assert [line.split()[0] for line in done.stdout.splitlines()] == [tool.name for tool in tools]


def test_a_tool_that_is_not_published_is_built_at_once(tmp_path):
    said = []
    with pytest.raises(DownloadFailedError, match="publishes no program"):
        Downloader(Progress(said.append)).fetch(VIRT_API, tmp_path)
    assert said == [], "it asked somebody"
