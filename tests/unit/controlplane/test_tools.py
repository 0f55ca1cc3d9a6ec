import re

import pytest

from vfio_ap_sim.controlplane.gobuild import MODULES, build_command
from vfio_ap_sim.controlplane.golang import GO_BIN, MINIMUM
from vfio_ap_sim.controlplane.tools import ETCD, HELM, KUBERNETES, TOOLS

PINS = {
    "kubernetes": ("k8s.io/kubernetes", KUBERNETES),
    "etcd": ("go.etcd.io/etcd/server/v3", ETCD),
    "helm": ("helm.sh/helm/v3", HELM),
}


@pytest.mark.parametrize("module", PINS)
def test_the_modules_pin_the_version_that_is_downloaded(module):
    name, version = PINS[module]
    text = (MODULES / module / "go.mod").read_text()
    assert re.search(rf"^\s*(require )?{re.escape(name)} {re.escape(version)}\b", text, re.M)
    assert f"{name} {version} h1:" in (MODULES / module / "go.sum").read_text()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_each_program_is_a_tool_of_its_module(tool):
    text = (MODULES / tool.build.module / "go.mod").read_text()
    assert re.search(rf"^(tool |\t){re.escape(tool.build.package)}$", text, re.M)


def test_staging_modules_are_replaced_by_the_release_of_the_same_minor():
    text = (MODULES / "kubernetes" / "go.mod").read_text()
    replaced = re.findall(r"^\t(\S+) => (\S+) (\S+)$", text, re.M)
    assert len(replaced) > 20
    assert all(old == new and version == KUBERNETES.replace("v1.", "v0.") for old, new, version in replaced)
    unresolved = set(re.findall(r"^\t(k8s\.io/\S+) v0\.0\.0\b(?!-)", text, re.M)) - {old for old, *_ in replaced}
    assert unresolved == set()


def test_the_go_that_is_installed_is_new_enough_for_the_modules():
    asked = {
        tuple(map(int, re.search(r"^go (\d+)\.(\d+)", (MODULES / m / "go.mod").read_text(), re.M).groups()))
        for m in PINS
    }
    assert max(asked) <= MINIMUM <= tuple(map(int, GO_BIN.split(".")[:2]))


def test_a_built_helm_renders_for_the_kubernetes_of_its_client_library():
    client = re.search(r"^\tk8s\.io/client-go v0\.(\d+)\.", (MODULES / "helm" / "go.mod").read_text(), re.M)
    variables = dict(next(tool for tool in TOOLS if tool.name == "helm").build.variables)
    for package in ("chartutil", "lint/rules"):
        assert variables[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMajor"] == "1"
        assert variables[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor"] == client[1]


def test_a_kubernetes_build_says_its_version_in_both_places(tmp_path):
    tool = next(tool for tool in TOOLS if tool.name == "kube-apiserver")
    line = " ".join(build_command(tmp_path / "go", tool, tmp_path / "out"))
    assert f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}" in line
    assert f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}" in line
