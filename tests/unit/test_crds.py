"""The committed CRDs are what the models say, and structural."""

from pathlib import Path

import pytest

from vfio_ap_api import generate
from vfio_ap_api.crd import custom_resource_definition

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["crds/yaml", "charts/vfio-ap-operator/files/crds"])
def test_the_committed_yaml_is_what_the_models_say(folder):
    assert generate.main(["--check", str(ROOT / folder)]) == 0


def test_a_stale_file_is_named(tmp_path, capsys):
    generate.main([str(tmp_path)])
    stale = tmp_path / "ap.s390x.io_apnodes.yaml"
    stale.write_text("old")
    assert generate.main(["--check", str(tmp_path)]) == 1
    assert str(stale) in capsys.readouterr().err
    assert stale.read_text() == "old"


@pytest.mark.parametrize("kind", generate.KINDS, ids=lambda kind: kind.name)
def test_every_node_of_a_schema_is_structural(kind):
    version = custom_resource_definition(kind)["spec"]["versions"][0]

    def walk(schema, path):
        assert "$ref" not in schema, path
        assert "anyOf" not in schema, path
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        for name, child in schema.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}[]")

    walk(version["schema"]["openAPIV3Schema"], kind.name)


@pytest.mark.parametrize("kind", generate.KINDS, ids=lambda kind: kind.name)
def test_a_status_has_no_defaults(kind):
    schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert "'default'" not in str(schema["properties"]["status"])
