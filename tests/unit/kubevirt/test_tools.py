import re

from vfio_ap_sim.controlplane.gobuild import MODULES
from vfio_ap_sim.controlplane.tools import KUBEVIRT, MANIFESTS, OPTIONAL, VIRT_API

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
