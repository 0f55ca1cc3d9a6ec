"""The CRDs on a real API server: what they refuse and in which words, what they accept, what kubectl shows."""

import re
from contextlib import contextmanager

import pytest

from .support import apnode, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("chart")]

ID = "an id is 0 to 255: decimal (5), hexadecimal in quotes ('0xab') or a range ('4-7'); no leading zero"
UUID = "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11"
OTHER = "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c12"
NOT_A_UUID = "a UUID in lower case: 8-4-4-4-12 of 0-9 and a-f, with hyphens"
SHORT_NAME = (
    "metadata: Invalid value: the name becomes part of a resource and a label: at most 63 of a-z, 0-9 and -"
)


def matrix(name, **spec):
    """Return a good APMatrix, but for ``spec``; a field that is None is left out."""
    spec = {"adapters": [5], "domains": [4], "allowedNamespaces": ["bank"], **spec}
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMatrix",
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


@contextmanager
def made(admin, document):
    """Make an object for the time of a test; return its resource/name."""
    what = admin.create(document, "-o", "name").strip()
    try:
        yield what
    finally:
        admin.kubectl("delete", what)


@pytest.fixture
def assigned(admin):
    """An APMatrix without spec.uuid whose status has one."""
    with made(admin, matrix("crds-assigned")) as name:
        patch(admin, name, f'{{"status":{{"uuid":"{UUID}"}}}}', "--subresource=status")
        yield name


@pytest.fixture
def given(admin):
    """An APMatrix with spec.uuid."""
    with made(admin, matrix("crds-given", uuid=UUID)) as name:
        yield name


def patch(admin, name, change, *args):
    return admin.kubectl("patch", name, "--type=merge", "-p", change, *args)


def table(text):
    """Return kubectl's table as (header, rows), split at runs of spaces."""
    header, *rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return header, rows


@pytest.mark.parametrize("field", ["adapters", "domains", "controlDomains"])
@pytest.mark.parametrize("item", [256, -1, "08", "-1", "0x100", "", " 5", "5,6", "4-", "4-256", "abc", "256"])
def test_what_is_no_id_is_refused(admin, field, item):
    said = admin.refused(matrix("crds-bad", **{field: [1, item]}))
    shown = f'"{item}"' if isinstance(item, str) else item
    assert f"spec.{field}[1]: Invalid value: {shown}: {ID}" in said
    assert "not found" in admin.refusal("get", "apmatrix", "crds-bad")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"adapters": []}, "spec.adapters: Invalid value: 0: spec.adapters in body should have at least 1 items"),
        ({"adapters": None}, "spec.adapters: Required value"),
        ({"domains": []}, "spec.domains in body should have at least 1 items"),
        ({"adapters": 5}, "spec.adapters in body must be of type array"),
        ({"adapters": [5.5]}, "spec.adapters[0] in body must be of type integer,string"),
        ({"adapters": ["0x0005-0x0006"]}, "spec.adapters[0]: Too long: may not be more than 9 bytes"),
        ({"adapters": [4, 5, 4]}, "spec.adapters: Invalid value: an id is named twice"),
        ({"domains": [5, "5"]}, "spec.domains: Invalid value: an id is named twice"),
        ({"allowedNamespaces": None}, "spec.allowedNamespaces: Required value"),
        ({"allowedNamespaces": ["bank", "bank"]}, 'spec.allowedNamespaces[1]: Duplicate value: "bank"'),
        ({"allowedNamespaces": ["*"]}, '"*": a namespace\'s name: at most 63 of a-z, 0-9 and -'),
        ({"adaptors": [5]}, 'unknown field "spec.adaptors"'),
        ({"placement": "Somewhere"}, 'Unsupported value: "Somewhere": supported values: "OnDemand", "Everywhere"'),
        ({"uuid": UUID.upper()}, f'spec.uuid: Invalid value: "{UUID.upper()}": {NOT_A_UUID}'),
        ({"uuid": "nonsense"}, f'spec.uuid: Invalid value: "nonsense": {NOT_A_UUID}'),
        ({"uuid": ""}, f'spec.uuid: Invalid value: "": {NOT_A_UUID}'),
        ({"adoptExisting": True}, "spec.adoptExisting needs spec.uuid, the UUID of the existing device"),
        ({"expectedKeys": {"AES TOP": "0x" + "a" * 16}}, "a register is AES, APKA or ASYM with NEW, CUR or OLD"),
        ({"expectedKeys": {"AES CUR": "0xabc"}}, '"0xabc": a verification pattern: 0x and 16, 32 or 64 of 0-9'),
        ({"variants": [{"adapters": [5], "domains": [4]}]}, "a variant names the machines or the labels"),
        ({"variants": [{"machines": ["m"], "adapters": ["08"], "domains": [4]}]}, "an id is 0 to 255"),
        ({"variants": [{"machines": ["m"], "domains": [4]}]}, "spec.variants[0].adapters: Required value"),
    ],
    ids=str,
)
def test_a_bad_matrix_is_refused(admin, change, words):
    said = admin.refused(matrix("crds-bad", **change))
    assert words in said
    assert "should match" not in said  # words, not regular expressions
    assert "not found" in admin.refusal("get", "apmatrix", "crds-bad")


@pytest.mark.parametrize("name", ["crds.bad", "a" * 64])
def test_a_name_that_makes_no_label_is_refused(admin, name):
    assert SHORT_NAME in admin.refused(matrix(name))


def test_variants_and_expected_keys_are_accepted(admin):
    variants = [
        {"machines": ["IBM-3931-0000000000001A2B"], "adapters": ["9"], "domains": ["4-5"], "controlDomains": [4]},
        {"nodeSelector": {"row": "b"}, "adapters": [10], "domains": [4]},
    ]
    keys = {"AES CUR": "0x0123456789abcdef", "WK CUR": "0x" + "ab" * 32}
    with made(admin, matrix("crds-variants", variants=variants, expectedKeys=keys)) as name:
        spec = admin.get(name)["spec"]
    assert (spec["variants"][1]["adapters"], spec["expectedKeys"]) == ([10], keys)


def test_a_name_of_63_is_accepted(admin):
    assert "created" in admin.create(matrix("a" * 63), "--dry-run=server")


@pytest.mark.parametrize(
    "change",
    [
        f'{{"spec":{{"uuid":"{OTHER}"}}}}',
        '{"spec":{"uuid":null}}',
    ],
)
def test_a_given_uuid_never_changes(admin, given, change):
    before = admin.get(given)
    assert "spec.uuid: Invalid value: spec.uuid never changes" in admin.refusal(
        "patch", given, "--type=merge", "-p", change
    )
    assert admin.get(given) == before


def test_a_given_uuid_is_the_assigned_one(admin, assigned):
    before = admin.get(assigned)
    said = admin.refusal("patch", assigned, "--type=merge", "-p", f'{{"spec":{{"uuid":"{OTHER}"}}}}')
    assert "spec.uuid differs from status.uuid, which was assigned already and never changes" in said
    assert admin.get(assigned) == before
    assert "patched" in patch(admin, assigned, f'{{"spec":{{"uuid":"{UUID}"}}}}')


@pytest.mark.parametrize("uuid", [f'"{OTHER}"', '""', "null"])
def test_an_assigned_uuid_never_changes(admin, assigned, uuid):
    before = admin.get(assigned)
    change = f'{{"status":{{"uuid":{uuid}}}}}'
    said = admin.refusal("patch", assigned, "--type=merge", "--subresource=status", "-p", change)
    assert "status.uuid: Invalid value: status.uuid was assigned already and never changes" in said
    assert admin.get(assigned) == before


def test_a_whole_status_may_not_go_once_a_uuid_was_assigned(admin, assigned):
    said = admin.refusal("patch", assigned, "--type=merge", "--subresource=status", "-p", '{"status":null}')
    assert "status.uuid was assigned already and never changes" in said


@pytest.mark.parametrize(
    "ids", [[0], [255], ["0"], ["5"], ["0x0", "0xFF"], ["0xab"], ["4-7"], ["0x05-0x08", 12], ["0-255"]], ids=str
)
def test_every_notation_is_accepted_and_kept(admin, ids):
    with made(admin, matrix("crds-good", adapters=ids, domains=ids, controlDomains=ids)) as name:
        spec = admin.get(name)["spec"]
    assert spec["adapters"] == spec["domains"] == spec["controlDomains"] == ids


def test_the_largest_lists_are_within_the_api_server_s_budget(admin):
    """The rules look at each pair of ids; one that cost too much would refuse what is right."""
    ids = [f"0x{number:02x}-0x{number:02x}" for number in range(256)]
    names = [f"{number:063}" for number in range(256)]
    full = matrix("crds-full", adapters=ids, domains=ids, controlDomains=ids, allowedNamespaces=names)
    assert "created" in admin.create(full, "--dry-run=server")


def test_yaml_reads_unquoted_leading_zeros_before_anybody_can_refuse_them(admin):
    """kubectl sends numbers: 08 becomes 8, 010 is octal and becomes 8, 0xab becomes 171.

    The API server never sees the zero. That is why the field's description warns of it.
    """
    text = """
apiVersion: ap.s390x.io/v1alpha1
kind: APMatrix
metadata: {name: crds-zeros}
spec: {adapters: [08], domains: [010], controlDomains: [0xab], allowedNamespaces: [bank]}
"""
    with made(admin, text) as name:
        spec = admin.get(name)["spec"]
    assert (spec["adapters"], spec["domains"], spec["controlDomains"]) == ([8], [8], [171])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("apmatrix.spec.adapters", "Adapters (0-255): numbers, '0x..' strings or ranges such as '4-7'."),
        ("apmatrix.spec.adapters", "No leading zeros: YAML reads an unquoted 010 as 8."),
        ("apmatrix.spec.allowedNamespaces", "Required: nothing is open by default."),
        ("apnode.spec.hostReserved", "Queues that never leave the host."),
        ("apnode", "One node with an AP bus: what it shall hold, what it has, what it can do."),
    ],
)
def test_kubectl_explains(admin, path, words):
    # The API server publishes the schema of a new kind a moment after it serves it
    until(lambda: words in " ".join(admin.kubectl("explain", path).split()), f"{path} explained")


def test_the_short_names_and_the_category(admin):
    node = apnode("crds-names")
    with made(admin, matrix("crds-names")) as one, made(admin, node) as other:
        assert admin.kubectl("get", "apm", "crds-names", "-o", "name").strip() == one
        assert admin.kubectl("get", "apn", "crds-names", "-o", "name").strip() == other
        assert {one, other} <= set(admin.kubectl("get", "ap", "-o", "name").split())


def test_the_columns_of_matrices(admin):
    status = """{"status": {"uuid": "%s", "adapters": "5-6", "domains": "4,171", "ready": "2/3", "usedBy": "lnx1",
        "state": "Degraded (NodeSilent)"}}"""
    with made(admin, matrix("crds-columns")) as name:
        patch(admin, name, status % UUID, "--subresource=status")
        header, [row] = table(admin.kubectl("get", name))
        wide, _ = table(admin.kubectl("get", name, "-o", "wide"))
    assert header == ["NAME", "UUID", "ADAPTERS", "DOMAINS", "READY", "USED-BY", "STATE", "AGE"]
    assert row[:-1] == ["crds-columns", UUID, "5-6", "4,171", "2/3", "lnx1", "Degraded (NodeSilent)"]
    assert re.fullmatch(r"\d+s", row[-1])
    assert wide == [*header, "CONTROL", "NAMESPACES"]


def test_the_columns_of_nodes(admin):
    status = """{"status": {
        "machine": {"id": "IBM-9175-00000000000A1B2C", "lpar": "LNX1"},
        "kernel": {"release": "6.14.0", "liveMigration": "no"},
        "hostQueues": 170, "guestQueues": 4,
        "summary": {"adapters": "4 CEX8", "mdevs": "1/2 +1", "state": "Ready"}}}"""
    with made(admin, apnode("crds-columns")) as name:
        patch(admin, name, status, "--subresource=status")
        header, [row] = table(admin.kubectl("get", name))
        wide, [wide_row] = table(admin.kubectl("get", name, "-o", "wide"))
    assert header == ["NAME", "MACHINE", "ADAPTERS", "HOST", "GUEST", "MDEVS", "LIVE", "STATE", "AGE"]
    assert row[:-1] == ["crds-columns", "IBM-9175-00000000000A1B2C", "4 CEX8", "170", "4", "1/2 +1", "no", "Ready"]
    assert wide == [*header, "LPAR", "KERNEL"]
    assert wide_row[-2:] == ["LNX1", "6.14.0"]


def policy(name, **spec):
    return {
        "apiVersion": "ap.s390x.io/v1alpha1",
        "kind": "APMigrationPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def migration(name, **spec):
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "ap.s390x.io/v1alpha1", "kind": "APMigration", "metadata": metadata, "spec": spec}


def test_a_policy_without_a_word_says_what_it_means(admin):
    with made(admin, policy("crds-silent")) as name:
        assert admin.kubectl("get", name, "-o", "jsonpath={.spec.modes}") == '["Live"]'
        row = admin.kubectl("get", name).splitlines()[1].split()
    assert row[:4] == ["crds-silent", '["Live"]', "Warn", "Operator"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"modes": []}, "should have at least 1 items"),
        ({"modes": ["Hot"]}, 'supported values: "Live", "Reattach", "Restart"'),
        ({"modes": ["Restart"], "evacuation": "KubeVirt"}, "KubeVirt evacuates by live migration only"),
        ({"budgets": {"cluster": 0}}, "should be greater than or equal to 1"),
        ({"timeLimits": {"hold": 1}}, "should be greater than or equal to 5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(admin, spec, words):
    assert words in admin.refused(policy("crds-senseless", **spec))


def test_a_move_stays_what_it_was_asked_for_as(admin):
    with made(admin, migration("crds-move", vm="ledger")) as name:
        error = admin.refusal("patch", "-n", "default", name, "--type=merge", "-p", '{"spec":{"node":"lnx2"}}')
    assert "a move is what it was asked for as: make another APMigration" in error


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ({"AES CUR": "0x0123456789abcdef"}, ""),
        ({"WK CUR": "0x" + "a1" * 32}, ""),
        ({"DES CUR": "0x0123456789abcdef"}, "a register is AES, APKA or ASYM with NEW, CUR or OLD (CCA)"),
        ({"AES CUR": "0x123"}, "spec.attestedKeys[0].patterns"),
        ({}, "should have at least 1 properties"),
    ],
)
def test_attested_keys_are_patterns_of_known_registers(admin, patterns, words):
    node = apnode("crds-attested", attestedKeys=[{"adapters": "5", "domains": "4", "patterns": patterns}])
    said = admin.refused(node) if words else admin.create(node, "--dry-run=server")
    assert (words or "created") in said
