"""The chart's admission policies, tried as the users whom they bind, with tokens where a token's claim decides."""

import json

import pytest

from vfio_ap_sim.controlplane import CommandFailedError

from .support import KUBEVIRT, apnode, bearer, container, namespace, pod, until

pytestmark = pytest.mark.cluster

OWN = "an agent writes the objects of its own node only: this token belongs to"
MDEVS = "spec.mdevs of an APNode is written by the vfio-ap operator from APMatrix objects; change those instead"
LABELS = "labels use.ap.s390x.io/* are written by the vfio-ap operator from APMatrix.spec.allowedNamespaces"
NOTHING_BUT = "the vfio-ap operator writes nothing on a namespace but its labels use.ap.s390x.io/*"
ONE = (
    "a pod takes exactly one ap.s390x.io resource, in one container that is no init container, with the quantity 1"
)
MDEV = {"uuid": "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11", "matrix": "m", "adapters": "5", "domains": "4"}
POLICIES = ("vfio-ap-agents", "vfio-ap-apnodes", "vfio-ap-namespaces", "vfio-ap-pods")


def lease(name, space):
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": space},
        "spec": {"holderIdentity": name},
    }


def spec(**fields):
    return ("--type=merge", "-p", json.dumps({"spec": fields}))


@pytest.fixture(scope="module")
def operator(chart, user):
    """The operator, with the rights that the chart gives it."""
    return user(f"system:serviceaccount:{chart}:vfio-ap-operator", "system:serviceaccounts")


@pytest.fixture(scope="module")
def agents(control_plane, chart, admin):
    """The agents of the nodes pol-a and pol-b, each with the token that its pod would have."""
    account, found = "vfio-ap-agent", {}
    for name in ("pol-a", "pol-b"):
        admin.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        admin.create(pod(name, chart, serviceAccountName=account, nodeName=name))
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
        found[name] = bearer(control_plane, name, admin.kubectl("create", "token", account, "-n", chart, *bound))
    yield found
    for name in found:
        admin.kubectl("delete", "pod", name, "-n", chart, "--force")
        admin.kubectl("delete", "node", name)
        admin.kubectl("delete", "lease", name, "-n", chart, "--ignore-not-found")


@pytest.fixture
def nodes(admin, chart):
    """The APNodes pol-a and pol-b, empty."""
    for name in ("pol-a", "pol-b"):
        admin.create(apnode(name))
    yield
    admin.kubectl("delete", "apnode", "pol-a", "pol-b")


@pytest.fixture(scope="module")
def kubevirt(chart, admin, user):
    """KubeVirt's controller, which may make pods."""
    name = "pol-kubevirt"
    admin.kubectl("create", "clusterrolebinding", name, "--clusterrole=edit", f"--user={KUBEVIRT}")
    yield user(KUBEVIRT, "system:serviceaccounts")
    admin.kubectl("delete", "clusterrolebinding", name)


@pytest.fixture(scope="module")
def spaces(chart, admin, operator):
    """The namespaces pol-bank, which may use the matrices payments and cards, and pol-shop, which may not."""
    for name in ("pol-bank", "pol-shop"):
        admin.create(namespace(name))
        # Until it exists no pod is admitted to the namespace
        admin.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    operator.kubectl(
        "label", "namespace", "pol-bank", *(f"use.ap.s390x.io/{m}=allowed" for m in ("payments", "cards"))
    )
    yield
    # The labels do not hinder the end of a namespace
    admin.kubectl("delete", "namespace", "pol-bank", "pol-shop", "--timeout=50s")


def asking(space, *containers, init=()):
    more = {"initContainers": list(init)} if init else {}
    return pod("pol", space, containers=list(containers), **more)


def payments(name="c", count="1"):
    return container(name, limits={"ap.s390x.io/payments": count})


# --- every policy


@pytest.mark.parametrize("name", POLICIES)
def test_the_types_of_a_policy_fit(admin, chart, name):
    def checked():
        policy = admin.get("validatingadmissionpolicy", name)
        status = policy.get("status", {})
        return status if status.get("observedGeneration") == policy["metadata"]["generation"] else None

    status = until(checked, f"{name} checked")
    assert status["typeChecking"] == {}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_cannot_be_evaluated_refuses(admin, chart, name):
    assert admin.get("validatingadmissionpolicy", name)["spec"]["failurePolicy"] == "Fail"
    binding = admin.get("validatingadmissionpolicybinding", name)
    assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}


# --- agents


def test_an_agent_writes_the_objects_of_its_own_node(agents, admin, chart):
    agent = agents["pol-a"]
    agent.create(apnode("pol-a"))
    try:
        agent.apply_status(apnode("pol-a"), hostQueues=3)
        agent.create(lease("pol-a", chart))
        agent.kubectl("patch", "lease", "pol-a", "-n", chart, *spec(holderIdentity="again"))
        assert admin.get("apnode", "pol-a")["status"] == {"hostQueues": 3}
        assert admin.get("lease", "pol-a", "-n", chart)["spec"]["holderIdentity"] == "again"
    finally:
        admin.kubectl("delete", "apnode", "pol-a")


def test_an_agent_writes_nothing_of_another_node(agents, admin, chart, nodes):
    agent, said = agents["pol-a"], f"{OWN} node pol-a, the object is pol-b"
    admin.kubectl("delete", "lease", "pol-b", "-n", chart, "--ignore-not-found")
    agents["pol-b"].create(lease("pol-b", chart))
    before = admin.get("apnode", "pol-b"), admin.get("lease", "pol-b", "-n", chart)
    assert f"{OWN} node pol-a, the object is pol-c" in agent.refused(apnode("pol-c"))
    with pytest.raises(CommandFailedError, match=said):
        agent.apply_status(apnode("pol-b"), hostQueues=3)
    assert said in agent.refusal("patch", "lease", "pol-b", "-n", chart, *spec(holderIdentity="a"))
    assert f"{OWN} node pol-a, the object is pol-c" in agent.refused(lease("pol-c", chart))
    assert before == (admin.get("apnode", "pol-b"), admin.get("lease", "pol-b", "-n", chart))


def test_an_agent_cannot_take_the_operator_s_lead(agents, chart):
    assert f"{OWN} node pol-a, the object is vfio-ap-operator" in agents["pol-a"].refused(
        lease("vfio-ap-operator", chart)
    )


def test_an_agent_whose_token_names_no_node_writes_nothing(control_plane, admin, user, chart, nodes):
    token = admin.kubectl("create", "token", "vfio-ap-agent", "-n", chart)
    certified = user(f"system:serviceaccount:{chart}:vfio-ap-agent", "system:serviceaccounts")
    for agent in (bearer(control_plane, "pol-unbound", token), certified):
        assert f"{OWN} no node, the object is pol-c" in agent.refused(apnode("pol-c"))
        assert f"{OWN} no node, the object is pol-c" in agent.refused(lease("pol-c", chart))
        with pytest.raises(CommandFailedError, match=f"{OWN} no node, the object is pol-a"):
            agent.apply_status(apnode("pol-a"), hostQueues=3)


def test_an_agent_does_not_choose_what_its_node_holds(agents, admin, chart):
    assert MDEVS in agents["pol-a"].refused(apnode("pol-a", mdevs=[MDEV]))
    agents["pol-a"].create(apnode("pol-a"))
    try:
        said = agents["pol-a"].refusal("patch", "apnode", "pol-a", *spec(mdevs=[MDEV]))
        assert 'cannot patch resource "apnodes"' in said
    finally:
        admin.kubectl("delete", "apnode", "pol-a")


# --- APNode.spec


def test_only_the_operator_says_what_a_node_holds(operator, admin, nodes):
    assert MDEVS in admin.refusal("patch", "apnode", "pol-a", *spec(mdevs=[MDEV]))
    operator.kubectl("patch", "apnode", "pol-a", *spec(mdevs=[MDEV]))
    before = admin.get("apnode", "pol-a")
    assert before["spec"]["mdevs"][0]["uuid"] == MDEV["uuid"]
    for mdevs in ([], None, [{**MDEV, "granted": True}]):
        assert MDEVS in admin.refusal("patch", "apnode", "pol-a", *spec(mdevs=mdevs))
    assert MDEVS in admin.refused(apnode("pol-c", mdevs=[MDEV]))
    assert "spec.readBack of an APNode is written by" in admin.refusal(
        "patch", "apnode", "pol-a", *spec(readBack="m1")
    )
    assert admin.get("apnode", "pol-a") == before


def test_an_administrator_reserves_queues_for_the_host(operator, admin, nodes):
    operator.kubectl("patch", "apnode", "pol-a", *spec(mdevs=[MDEV]))
    admin.kubectl("patch", "apnode", "pol-a", *spec(hostReserved=[{"adapters": "5", "domains": "0-3"}]))
    assert admin.get("apnode", "pol-a")["spec"]["hostReserved"] == [{"adapters": "5", "domains": "0-3"}]


def test_an_empty_list_for_none_is_no_change(admin, nodes):
    """Both mean that the node holds nothing, so that a whole document may be applied as it was read."""
    admin.kubectl("patch", "apnode", "pol-a", *spec(mdevs=[]))
    assert admin.get("apnode", "pol-a")["spec"].get("mdevs") == []
    admin.kubectl("patch", "apnode", "pol-a", *spec(mdevs=None))
    assert "mdevs" not in admin.get("apnode", "pol-a")["spec"]


# --- namespace labels


def test_only_the_operator_admits_a_matrix_to_a_namespace(admin, operator, spaces):
    assert LABELS in admin.refused(namespace("pol-new", **{"use.ap.s390x.io/payments": "allowed"}))
    assert LABELS in admin.refusal("label", "namespace", "pol-shop", "use.ap.s390x.io/payments=allowed")
    assert LABELS in admin.refusal("label", "namespace", "pol-bank", "use.ap.s390x.io/payments-")
    assert LABELS in admin.refusal("label", "namespace", "pol-bank", "--overwrite", "use.ap.s390x.io/payments=no")
    operator.kubectl("label", "namespace", "pol-shop", "use.ap.s390x.io/x=allowed")
    operator.kubectl("label", "namespace", "pol-shop", "use.ap.s390x.io/x-")


def test_no_subresource_of_a_namespace_is_a_way_round(admin, spaces):
    change = json.dumps({"metadata": {"labels": {"use.ap.s390x.io/payments": "allowed"}}})
    assert LABELS in admin.refusal("patch", "ns", "pol-shop", "--subresource=status", "--type=merge", "-p", change)
    whole = admin.get("namespace", "pol-shop")
    whole["metadata"]["labels"]["use.ap.s390x.io/payments"] = "allowed"
    path = "/api/v1/namespaces/pol-shop/finalize"
    assert LABELS in admin.refusal("replace", "--raw", path, "-f", "-", document=whole)


def test_an_administrator_writes_other_labels(admin, spaces):
    admin.kubectl("label", "namespace", "pol-bank", "team=blue")
    admin.kubectl("label", "namespace", "pol-bank", "team-")


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
        {"labels": {"use.ap.s390x.io/x": "allowed", "team": "red"}},
        {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "a=b"}},
        {"finalizers": ["example.com/for-ever"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]},
    ],
    ids=str,
)
def test_the_operator_writes_nothing_else_on_a_namespace(operator, admin, spaces, metadata):
    before = admin.get("namespace", "pol-bank")
    change = json.dumps({"metadata": metadata})
    assert NOTHING_BUT in operator.refusal("patch", "namespace", "pol-bank", "--type=merge", "-p", change)
    assert admin.get("namespace", "pol-bank") == before


# --- pods


def test_nobody_but_kubevirt_makes_pods_with_a_matrix(admin, spaces):
    for document in (asking("pol-bank", payments()), asking("pol-bank", container(), init=[payments("i")])):
        said = admin.refused(document)
        assert "only KubeVirt may create pods that request ap.s390x.io resources, and admin may not" in said
        assert "annotate a VirtualMachine template with ap.s390x.io/matrix instead" in said


def test_a_namespace_without_the_label_gets_no_pod(kubevirt, spaces):
    said = kubevirt.refused(asking("pol-shop", payments()))
    assert (
        "namespace pol-shop may not use matrix payments: APMatrix.spec.allowedNamespaces does not name it" in said
    )
    other = container(limits={"ap.s390x.io/unknown": "1"})
    assert "namespace pol-bank may not use matrix unknown" in kubevirt.refused(asking("pol-bank", other))


def test_a_namespace_with_the_label_gets_its_pod(kubevirt, admin, spaces):
    kubevirt.create(asking("pol-bank", container("a"), payments("b"), init=[container("i")]))
    resources = admin.get("pod", "pol", "-n", "pol-bank")["spec"]["containers"][1]["resources"]
    # Limits alone are enough: the API server takes them for the requests
    assert resources["requests"] == resources["limits"] == {"ap.s390x.io/payments": "1"}
    admin.kubectl("delete", "pod", "pol", "-n", "pol-bank", "--force")


@pytest.mark.parametrize(
    "document",
    [
        asking("pol-bank", payments(count="2")),
        asking("pol-bank", payments(count="0")),
        asking("pol-bank", container(limits={"ap.s390x.io/payments": "1", "ap.s390x.io/cards": "1"})),
        asking("pol-bank", payments("a"), container("b", limits={"ap.s390x.io/cards": "1"})),
        asking("pol-bank", payments("a"), payments("b")),
        asking("pol-bank", container(), init=[payments("i")]),
        asking("pol-bank", payments(), init=[payments("i")]),
    ],
    ids=[
        "2",
        "0",
        "two matrices",
        "two in two containers",
        "two containers",
        "init container",
        "init and container",
    ],
)
def test_a_pod_takes_one_matrix_in_one_container(kubevirt, spaces, document):
    assert ONE in kubevirt.refused(document)


def test_requests_without_limits_are_refused_by_the_api_server(kubevirt, spaces):
    document = asking("pol-bank", container(requests={"ap.s390x.io/payments": "1"}))
    assert "Limit must be set for non overcommitable resources" in kubevirt.refused(document)


@pytest.mark.parametrize("limits", [{}, {"cpu": "1"}, {"example.com/gpu": "1"}, {"nap.s390x.io/payments": "1"}])
def test_other_pods_are_not_touched(admin, spaces, limits):
    admin.create(asking("pol-shop", container(limits=limits)), "--dry-run=server")


def test_a_deployment_is_no_way_round(admin, spaces):
    labels = {"app": "pol"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pol", "namespace": "pol-bank"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [payments()]}},
        },
    }
    admin.create(deployment)
    admin.kubectl("wait", "--for=condition=ReplicaFailure", "deployment/pol", "-n", "pol-bank", "--timeout=50s")
    conditions = {c["type"]: c for c in admin.get("deployment", "pol", "-n", "pol-bank")["status"]["conditions"]}
    assert conditions["ReplicaFailure"]["reason"] == "FailedCreate"
    who = "system:serviceaccount:kube-system:replicaset-controller"
    assert f"{who} may not" in conditions["ReplicaFailure"]["message"]
    assert admin.get("pods", "-n", "pol-bank", "-l", "app=pol")["items"] == []
    admin.kubectl("delete", "deployment", "pol", "-n", "pol-bank")
