"""The chart: what it renders, which values it refuses, and that a real API server accepts its manifests."""

import subprocess
import sys

import pytest
import yaml

from vfio_ap_sim.controlplane import ControlPlane

from .support import CHART, ROOT

pytestmark = pytest.mark.cluster

INSTALL = ROOT / "deploy" / "install.yaml"
ODD = [
    "--set=image.registry=registry.test:5000/crypto/",
    "--set-string=image.tag=1e3",
    "--set=image.pullPolicy=Always",
    "--set=image.pullSecrets[0].name=key",
    "--set=operator.replicas=3",
    "--set=operator.healthPort=65535",
    "--set-string=operator.nodeSelector.a\\.b/c=true",
    "--set=operator.tolerations[0].operator=Exists",
    "--set=operator.priorityClassName=",
    "--set=operator.resources.limits=null",
    "--set=agent.nodeSelector.kubernetes\\.io/arch=null",
    "--set=agent.tolerations=null",
    "--set=agent.priorityClassName=",
    "--set=agent.resources=null",
    "--set=policies.podCreators={system:serviceaccount:kv:one,system:serviceaccount:kv:two.x}",
    "--set=global.cluster=ours",
]


@pytest.fixture(scope="module")
def rendered(helm):
    """The documents of the chart, with flags for values."""

    def render(*flags):
        text = helm("template", "odd-name", CHART, "--namespace", "odd", *flags)
        return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(text) if d}

    return render


def pod_of(documents, part):
    kind = "DaemonSet" if part == "agent" else "Deployment"
    return documents[kind, f"vfio-ap-{part}"]["spec"]["template"]["spec"]


def test_lint_is_content(helm):
    helm("lint", "--strict", CHART)


@pytest.mark.usefixtures("chart")
@pytest.mark.parametrize("flags", [[], ODD], ids=["defaults", "odd values"])
def test_what_is_rendered_is_accepted(helm, admin, flags):
    """With the server's strict validation, in another namespace than the installed chart's."""
    text = helm("template", "vfio-ap", CHART, "--namespace", "default", *flags)
    said = admin.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", document=text
    )
    assert len(said.splitlines()) == len([d for d in yaml.safe_load_all(text) if d])


@pytest.mark.parametrize(
    ("flags", "creators"),
    [
        ((), "['system:serviceaccount:openshift-cnv:kubevirt-controller']"),
        (ODD, "['system:serviceaccount:kv:one', 'system:serviceaccount:kv:two.x']"),
    ],
    ids=["nobody named", "named"],
)
def test_a_kubevirt_in_another_namespace_is_looked_for_there(rendered, flags, creators):
    documents = rendered(*flags, "--set=kubevirt.namespace=openshift-cnv")
    (rule, *_) = documents["ValidatingAdmissionPolicy", "vfio-ap-pods"]["spec"]["validations"]
    assert f"request.userInfo.username in {creators}" in rule["expression"]
    binding = documents["ValidatingAdmissionPolicyBinding", "vfio-ap-features"]["spec"]
    assert binding["paramRef"]["namespace"] == "openshift-cnv"
    (container,) = pod_of(documents, "operator")["containers"]
    assert {"name": "KUBEVIRT_NAMESPACE", "value": "openshift-cnv"} in container["env"]


def test_odd_values_arrive(rendered):
    documents = rendered(*ODD)
    operator, agent = pod_of(documents, "operator"), pod_of(documents, "agent")
    assert operator["containers"][0]["image"] == "registry.test:5000/crypto/vfio-ap-operator:1e3"
    assert agent["containers"][0]["image"] == "registry.test:5000/crypto/vfio-ap-agent:1e3"
    assert operator["imagePullSecrets"] == agent["imagePullSecrets"] == [{"name": "key"}]
    assert operator["containers"][0]["ports"][0] == {"name": "health", "containerPort": 65535}
    assert operator["nodeSelector"] == {"a.b/c": "true"}
    assert "nodeSelector" not in agent
    policy = documents["ValidatingAdmissionPolicy", "vfio-ap-pods"]["spec"]["validations"][0]["expression"]
    assert "['system:serviceaccount:kv:one', 'system:serviceaccount:kv:two.x']" in policy


def test_images_have_the_chart_s_version_by_default(rendered):
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for part in ("operator", "agent"):
        assert pod_of(rendered(), part)["containers"][0]["image"] == f"vfio-ap-{part}:{version}"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("nonsense=1", "at '': additional properties 'nonsense' not allowed"),
        ("crds.instal=true", "at '/crds': additional properties 'instal' not allowed"),
        ("crds.install=maybe", "at '/crds/install': got string, want boolean"),
        ("image.regisrty=x", "at '/image': additional properties 'regisrty' not allowed"),
        ("image.tag=1", "at '/image/tag': got number, want string"),
        ("image.pullPolicy=Now", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("image.pullSecrets[0].nam=x", "at '/image/pullSecrets/0': missing property 'name'"),
        ("operator.image=null", "at '/operator': missing property 'image'"),
        ("agent=null", "at '': missing property 'agent'"),
        ("operator.image=", "at '/operator/image': minLength: got 0, want 1"),
        ("operator.replicas=0", "at '/operator/replicas': minimum: got 0, want 1"),
        ("operator.healthPort=80", "at '/operator/healthPort': minimum: got 80, want 1,024"),
        ("operator.verbose=true", "at '/operator': additional properties 'verbose' not allowed"),
        ("agent.replicas=2", "at '/agent': additional properties 'replicas' not allowed"),
        ("agent.nodeSelector.a=1", "at '/agent/nodeSelector/a': got number, want string"),
        ("agent.tolerations=x", "at '/agent/tolerations': got string, want array"),
        ("policies.podCreators=null", "at '/policies': missing property 'podCreators'"),
        ("policies.podCreators[0]=bob", "at '/policies/podCreators/0': 'bob' does not match pattern"),
        ("policies.enabled=false", "at '/policies': additional properties 'enabled' not allowed"),
    ],
)
def test_a_bad_value_is_refused_with_a_message(helm, flag, said):
    assert said in helm("template", "x", CHART, f"--set={flag}", fails=True)


def test_crds_stay_when_the_chart_goes(rendered):
    crds = [d for (kind, _), d in rendered().items() if kind == "CustomResourceDefinition"]
    assert {d["spec"]["names"]["kind"] for d in crds} == {
        "APMatrix",
        "APMigration",
        "APMigrationPolicy",
        "APNode",
    }
    assert all(d["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for d in crds)


def test_crds_can_be_left_to_somebody_else(rendered):
    kinds = {kind for kind, _ in rendered("--set=crds.install=false")}
    assert "CustomResourceDefinition" not in kinds
    assert "ValidatingAdmissionPolicy" in kinds


def test_every_policy_is_bound(rendered):
    documents = rendered()
    bound = {
        d["spec"]["policyName"] for (kind, _), d in documents.items() if kind == "ValidatingAdmissionPolicyBinding"
    }
    assert bound == {name for kind, name in documents if kind == "ValidatingAdmissionPolicy"} != set()


def test_the_policies_name_the_users_of_the_release_s_namespace(rendered):
    text = yaml.safe_dump_all(d for (kind, _), d in rendered().items() if kind == "ValidatingAdmissionPolicy")
    for part in ("operator", "agent"):
        assert f"system:serviceaccount:odd:vfio-ap-{part}" in text


def test_the_operator_may_do_nothing_on_its_node(rendered):
    pod = pod_of(rendered(), "operator")
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(pod)
    assert pod["volumes"] == [{"name": "webhook", "secret": {"secretName": "vfio-ap-webhook"}}]


def test_without_an_early_word_and_injection_by_webhook_nothing_is_served_and_no_certificate_is_made(rendered):
    documents = rendered("--set=admission.earlyRefusal=false")
    assert not {kind for kind, _ in documents} & {"Secret", "Service", "ValidatingWebhookConfiguration"}
    assert "volumes" not in pod_of(documents, "operator")


def test_the_early_word_on_migrations_fails_open_and_is_not_for_the_operators_own(rendered):
    (webhook,) = rendered()["ValidatingWebhookConfiguration", "vfio-ap"]["webhooks"]
    assert webhook["failurePolicy"] == "Ignore"
    assert "system:serviceaccount:" in webhook["matchConditions"][0]["expression"]


@pytest.mark.parametrize("part", ["operator", "agent"])
def test_a_component_learns_who_and_where_it_is(rendered, part):
    (container,) = pod_of(rendered(), part)["containers"]
    fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if "valueFrom" in e}
    identity = {"operator": {"POD_NAME": "metadata.name"}, "agent": {"NODE_NAME": "spec.nodeName"}}[part]
    assert fields == {"POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP", **identity}


def test_no_right_is_a_wildcard(rendered):
    roles = [d for (kind, _), d in rendered().items() if kind in ("ClusterRole", "Role")]
    assert len(roles) == 4
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], rule
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), rule
            assert "secrets" not in rule["resources"], rule
            if "pods" in rule["resources"]:  # policy vfio-ap-pod-changes bounds what is patched
                assert set(rule["verbs"]) <= {"get", "list", "watch", "patch"}, rule


@pytest.mark.usefixtures("control_plane")
def test_the_manifests_are_what_the_chart_says():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "render_manifests.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_manifests_come_in_an_order_that_works():
    documents = list(yaml.safe_load_all(INSTALL.read_text()))
    kinds = [document["kind"] for document in documents]
    assert kinds[:3] == ["Namespace", "CustomResourceDefinition", "CustomResourceDefinition"]
    assert kinds[-2:] == ["DaemonSet", "Deployment"]  # what runs comes when the policies bind it
    level = documents[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert (documents[0]["metadata"]["name"], level) == ("vfio-ap-system", "privileged")
    assert "Helm" not in INSTALL.read_text()


@pytest.mark.usefixtures("control_plane")  # skips where there are no binaries
async def test_the_manifests_are_accepted_by_a_new_cluster():
    """One apply, nothing before it and nothing after; a second one changes nothing."""
    async with ControlPlane() as plane:
        said = await plane.kubectl("apply", "--server-side", "-f", str(INSTALL))
        assert len(said.splitlines()) == len(list(yaml.safe_load_all(INSTALL.read_text())))
        assert "serverside-applied" in await plane.kubectl("apply", "--server-side", "-f", str(INSTALL))
