"""After a boot: nothing by itself under Kubernetes, mdevctl's definitions on a plain host, and only our own."""

import json

import pytest

from vfio_ap_agent.arguments import parser
from vfio_ap_agent.definitions import Definitions, definition, mask_hint

from .support import FOREIGN, A, B, Node, by_uuid, matrix, wanted


async def persist(node, folder, *mdevs):
    outcome = await node.apply(*mdevs)
    definitions = Definitions(node.state)
    problems = definitions.forget(node.applier.ours.mdevs)
    return [*problems, *definitions.persist(folder, outcome, node.applier.ours.mdevs)]


async def test_a_definition_is_what_mdevctl_would_have_written(tmp_path):
    node = Node(tmp_path / "node")
    assert await persist(node, tmp_path / "d", wanted(A, "5", "4,0xab", "4")) == []
    assert json.loads((tmp_path / "d" / A).read_text()) == {
        "mdev_type": "vfio_ap-passthrough",
        "start": "auto",
        "attrs": [
            {"assign_adapter": "5"},
            {"assign_domain": "4"},
            {"assign_domain": "171"},
            {"assign_control_domain": "4"},
        ],
    }
    assert [path.name for path in (tmp_path / "d").iterdir()] == [A]


@pytest.mark.parametrize(
    ("attrs", "start", "said"),
    [
        ([{"assign_adapter": "5"}, {"assign_domain": "0x04"}], "auto", True),
        ([{"ap_config": matrix("5", "4").ap_config()}], "auto", True),
        ([{"assign_adapter": "5"}, {"assign_domain": "4"}], "manual", False),
        ([{"assign_adapter": "5"}, {"assign_domain": "6"}], "auto", False),
    ],
)
async def test_a_queue_that_another_definition_starts_with_is_refused_as_the_callout_would(
    tmp_path, attrs, start, said
):
    node = Node(tmp_path / "node")
    (tmp_path / "d").mkdir()
    other = {"mdev_type": "vfio_ap-passthrough", "start": start, "attrs": attrs}
    (tmp_path / "d" / FOREIGN).write_text(json.dumps(other))
    problems = await persist(node, tmp_path / "d", wanted(A, "5", "4,171"))
    assert [p.reason for p in problems] == ["DefinitionConflict"] * said
    assert (tmp_path / "d" / A).exists() is not said
    assert all(FOREIGN in str(p) and "05.0004" in str(p) for p in problems)


async def test_what_the_callout_asks_of_a_definition_is_so(tmp_path):
    """Its attributes by name, numbers decimal, usage domains with control domains, released by the masks (T-8)."""
    node = Node(tmp_path / "node")
    outcome = await node.apply(wanted(A, "5", "4,171", "6"))
    document = json.loads(definition(by_uuid(outcome)[A].matrix))
    names = [name for attribute in document["attrs"] for name in attribute]
    assert set(names) == {"assign_adapter", "assign_domain", "assign_control_domain"}
    assert all(value.isdecimal() for attribute in document["attrs"] for value in attribute.values())
    host = outcome.view.masks
    assert not any(host.reserves(apqn) for apqn in matrix("5", "4,171"))


async def test_it_follows_its_device_and_goes_with_it(tmp_path):
    node = Node(tmp_path / "node")
    await persist(node, tmp_path / "d", wanted(A, "5", "4"))
    node.start_agent()
    await persist(node, tmp_path / "d", wanted(A, "6", "4"))
    assert {"assign_adapter": "6"} in json.loads((tmp_path / "d" / A).read_text())["attrs"]
    node.start_agent()
    assert await persist(node, tmp_path / "d") == []
    assert list((tmp_path / "d").iterdir()) == []


async def test_what_others_defined_stays_as_it_is(tmp_path):
    node = Node(tmp_path / "node")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / A).write_text("{}")
    node.kernel.write("/sys/bus/ap/apmask", "-6")
    node.foreign(adapters="6", domains="4")
    problems = await persist(node, tmp_path / "d", wanted(A, "5", "4"), wanted(B, "5", "6"))
    assert [problem.reason for problem in problems] == ["DefinitionForeign"]
    assert (tmp_path / "d" / A).read_text() == "{}"
    assert not (tmp_path / "d" / FOREIGN).exists()
    (tmp_path / "d" / B).write_text("edited")
    problems = await persist(node, tmp_path / "d")
    assert [(p.reason, p.subject) for p in problems] == [("DefinitionForeign", str(tmp_path / "d" / B))]
    assert (tmp_path / "d" / B).read_text() == "edited"


async def test_a_device_that_is_not_made_is_not_defined(tmp_path):
    node = Node(tmp_path / "node")
    node.kernel.write("/sys/bus/ap/apmask", "-5")
    node.foreign(adapters="5", domains="4")
    await persist(node, tmp_path / "d", wanted(A, "5", "4"))
    assert not (tmp_path / "d").exists()


async def test_an_override_has_nothing_to_define(tmp_path):
    node = Node(tmp_path / "node", prefer="override")
    problems = await persist(node, tmp_path / "d", wanted(A, "5", "4"))
    assert [problem.reason for problem in problems] == ["NotPersistent"]


async def test_the_masks_are_told_as_chzdev_takes_them(tmp_path):
    node = Node(tmp_path)
    assert mask_hint(await node.apply(wanted(A, "5", "4,6,171"))) == (
        "chzdev --type ap --persistent apmask=0-4,6-255 aqmask=0-255"
    )
    assert mask_hint(await node.apply()) == ""


async def test_after_a_boot_nothing_is_revived_that_is_not_wished_for_now(tmp_path):
    """The record of before the boot makes nothing; the wish of now does."""
    before = Node(tmp_path)
    await before.apply(wanted(A, "5", "4"), wanted(B, "6", "6"))
    after = Node(tmp_path)
    outcome = await after.apply(wanted(B, "6", "6"))
    assert {uuid: report.state for uuid, report in by_uuid(outcome).items()} == {B: "Ready"}
    assert set(after.applier.ours.mdevs) == {B}
    assert "--persist" not in parser("")._subparsers._group_actions[0].choices["run"].format_help()
