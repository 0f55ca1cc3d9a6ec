"""What the webhook adds to VMIs."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_ap_operator.admission.sidecar import Sidecar
from vfio_ap_operator.admission.vmis import merged_hooks, vmi_patch

OURS = Sidecar("registry.test:5000/crypto/vfio-ap-hook@sha256:" + "0" * 64)
LABELS = {"use.ap.s390x.io/payments": "b92c2167-437e-5907-846c-4d29ccba27ff"}
HOOKS = "hooks.kubevirt.io/hookSidecars"
JSON_SPACE = st.text(" \t\r\n", max_size=3)


def vmi(annotations=None, **domain):
    metadata = {"name": "one", "annotations": {"ap.s390x.io/matrix": "payments"} | (annotations or {})}
    return {"metadata": metadata, "spec": {"domain": domain}}


def applied(document, patch):
    """Return the document after a patch of ``add``s."""
    found = copy.deepcopy(document)
    for operation in patch:
        *path, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        inner = found
        for part in path:
            inner = inner[int(part)] if isinstance(inner, list) else inner[part]
        if last == "-":
            inner.append(operation["value"])
        else:
            inner[last] = copy.deepcopy(operation["value"])
    return found


def injected(document, strategy="External"):
    return applied(document, vmi_patch(document, LABELS, OURS, strategy))


@pytest.mark.parametrize(
    "domain",
    [{}, {"resources": {}}, {"resources": {"limits": {"cpu": "1"}}}, {"memory": {"reservedOverhead": {}}}],
    ids=str,
)
def test_everything_is_there_once_and_twice(domain):
    once = injected(vmi(**domain))
    assert once["metadata"]["annotations"]["ap.s390x.io/uuid"] == LABELS["use.ap.s390x.io/payments"]
    assert json.loads(once["metadata"]["annotations"][HOOKS]) == [{"image": OURS.image}]
    resources = once["spec"]["domain"]["resources"]
    assert resources["limits"]["ap.s390x.io/payments"] == resources["requests"]["ap.s390x.io/payments"] == "1"
    assert once["spec"]["domain"]["memory"]["reservedOverhead"] == {"memLock": "Required", "addedOverhead": "1Gi"}
    assert once["spec"]["evictionStrategy"] == "External"
    assert once["metadata"]["labels"] == {"ap.s390x.io/matrix": "payments"}
    assert injected(once) == once


def test_nothing_is_added_without_matrix_or_permission():
    assert vmi_patch({"metadata": {}, "spec": {"domain": {}}}, LABELS, OURS, "External") == []
    assert vmi_patch(vmi(), {}, OURS, "External") == []
    assert vmi_patch(vmi(), {"use.ap.s390x.io/cards": "x"}, OURS, "External") == []


def test_an_eviction_strategy_can_be_left_alone():
    assert "evictionStrategy" not in injected(vmi(), None)["spec"]


@pytest.mark.parametrize(("strategy", "given"), [("External", "LiveMigrate"), (None, None)])
def test_where_the_policy_leaves_evacuations_to_kubevirt_it_is_asked_for_live_migration(strategy, given):
    labels = {name: f"{uuid}.KubeVirt" for name, uuid in LABELS.items()}
    found = applied(vmi(), vmi_patch(vmi(), labels, OURS, strategy))
    assert found["spec"].get("evictionStrategy") == given
    assert found["metadata"]["annotations"]["ap.s390x.io/uuid"] == LABELS["use.ap.s390x.io/payments"]


def test_what_the_user_wrote_is_not_overwritten():
    document = vmi(
        {"ap.s390x.io/uuid": "mine"}, memory={"guest": "1Gi", "reservedOverhead": {"addedOverhead": "3Gi"}}
    )
    found = injected(document)
    assert found["metadata"]["annotations"]["ap.s390x.io/uuid"] == "mine"  # the policy refuses it
    overhead = {"addedOverhead": "3Gi", "memLock": "Required"}
    assert found["spec"]["domain"]["memory"] == {"guest": "1Gi", "reservedOverhead": overhead}


# --- the list of hook sidecars

ELEMENTS = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(ELEMENTS, JSON_SPACE, JSON_SPACE, st.booleans())
def test_a_list_keeps_its_elements_and_ends_with_ours(elements, before, after, escaped):
    merged = merged_hooks(before + json.dumps(elements, ensure_ascii=escaped) + after, OURS.entry)
    assert merged is not None
    assert json.loads(merged) == [*elements, {"image": OURS.image}]
    assert merged_hooks(merged, OURS.entry) is None


@given(st.lists(st.sampled_from([*'[]{},:"\\ \n1', OURS.entry, '"a"', "null", "\xa0"]), max_size=12).map("".join))
def test_no_text_can_make_ours_anything_but_the_last_element(text):
    merged = merged_hooks(text, OURS.entry)
    try:
        found = json.loads(merged if merged is not None else text)
    except ValueError:
        return
    if merged is not None:
        kept = text.strip("\xa0 \n\t\r")
        assert found == [*json.loads(kept), {"image": OURS.image}]
    elif isinstance(found, list):
        assert found[-1] == {"image": OURS.image}


@pytest.mark.parametrize("text", ["", "null", "{}", "[", "]", '{"image":"x"}', "nonsense"])
def test_what_is_no_list_is_left_to_the_policy(text):
    assert merged_hooks(text, OURS.entry) is None
    assert HOOKS not in json.dumps(vmi_patch(vmi({HOOKS: text}), LABELS, OURS, None))
