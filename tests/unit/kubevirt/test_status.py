import pytest

from vfio_ap_sim.kubevirt import migratable, movestate, vmistatus
from vfio_ap_sim.kubevirt.api import NODE_NAME, TARGET_NODE_NAME
from vfio_ap_sim.kubevirt.heartbeat import beat, labels
from vfio_ap_sim.kubevirt.memlock import may_lock_memory
from vfio_ap_sim.kubevirt.sweep import kept_types, switched_off

POD = [{"name": "default", "pod": {}}]


def vmi(*, networks=POD, volumes=(), status=None, annotations=None, **domain):
    domain.setdefault("devices", {}).setdefault("interfaces", [{"name": "default", "masquerade": {}}])
    return {
        "metadata": {"name": "v", "labels": {}, "annotations": annotations or {}},
        "spec": {"domain": domain, "networks": networks, "volumes": list(volumes)},
        "status": status or {},
    }


def bridged(**more):
    return vmi(devices={"interfaces": [{"name": "default", "bridge": {}}]}, **more)


CLAIM = {"name": "d", "persistentVolumeClaim": {"claimName": "c"}}


def claimed(mode):
    return {"volumeStatus": [{"name": "d", "persistentVolumeClaimInfo": {"accessModes": [mode]}}]}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (vmi(), None),
        (vmi(devices={"interfaces": []}), None),
        (bridged(), "InterfaceNotLiveMigratable"),
        (bridged(annotations={migratable.BRIDGE_ALLOWED: ""}), None),
        (vmi(devices={"hostDevices": [{"name": "a"}]}), "HostDeviceNotLiveMigratable"),
        (vmi(devices={"gpus": [{"name": "a"}]}), "HostDeviceNotLiveMigratable"),
        (vmi(launchSecurity={}), "SecureExecutionNotLiveMigratable"),
        (vmi(volumes=[CLAIM]), "DisksNotLiveMigratable"),
        (vmi(volumes=[CLAIM], status=claimed("ReadWriteOnce")), "DisksNotLiveMigratable"),
        (vmi(volumes=[CLAIM], status=claimed("ReadWriteMany")), None),
        (vmi(volumes=[{"name": "h", "hostDisk": {"path": "/x"}}]), "DisksNotLiveMigratable"),
        (vmi(volumes=[{"name": "h", "hostDisk": {"path": "/x", "shared": True}}]), None),
        (vmi(resources={"limits": {"ap.s390x.io/m": "1"}}), None),
    ],
)
def test_what_virt_handler_calls_migratable(document, reason):
    found = migratable.condition(document)
    assert (found["status"], found.get("reason")) == ("False" if reason else "True", reason)


def test_a_disk_that_is_only_here_goes_by_blocks():
    disk = {"name": "d", "containerDisk": {}}
    assert migratable.method(vmi()) == "LiveMigration"
    assert migratable.method(vmi(volumes=[CLAIM])) == "LiveMigration"
    assert migratable.method(vmi(volumes=[disk])) == "BlockMigration"
    cdrom = [{"name": "d", "cdrom": {"bus": "virtio"}}]
    assert migratable.method(vmi(volumes=[disk], devices={"disks": cdrom})) == "LiveMigration"


@pytest.mark.parametrize(
    ("domain", "raised"),
    [
        ({}, False),
        ({"resources": {"limits": {"ap.s390x.io/m": "1"}}}, False),
        ({"memory": {"reservedOverhead": {"memLock": "NotRequired"}}}, False),
        ({"memory": {"reservedOverhead": {"memLock": "Required"}}}, True),
        ({"devices": {"hostDevices": [{"name": "a"}]}}, True),
        ({"devices": {"interfaces": [{"name": "n", "sriov": {}}]}}, True),
    ],
)
def test_for_whom_virt_handler_raises_the_limit_of_locked_memory(domain, raised):
    assert may_lock_memory(vmi(**domain)) is raised


def test_a_phase_is_dated_once():
    document = vmi()
    for phase in ("Running", "Running", "Failed", "Running"):
        vmistatus.set_phase(document, phase)
    passed = [entry["phase"] for entry in document["status"]["phaseTransitionTimestamps"]]
    assert passed == ["Running", "Failed"]


def test_a_failure_stays_as_it_was_first_said_until_it_is_over():
    document = vmi()
    vmistatus.set_failure(document, "first")
    vmistatus.set_failure(document, "second")
    (condition,) = document["status"]["conditions"]
    assert condition["message"] == "first"
    vmistatus.set_running(document)
    assert document["status"]["conditions"] == []


def test_conditions_are_not_written_anew_when_nothing_changed():
    document = vmi()
    vmistatus.set_conditions(document)
    before = [dict(condition) for condition in document["status"]["conditions"]]
    vmistatus.set_conditions(document)
    assert document["status"]["conditions"] == before


def moving(**state):
    document = vmi(status={"nodeName": "a", "evacuationNodeName": "a"})
    document["metadata"]["labels"] = {NODE_NAME: "a", TARGET_NODE_NAME: "b"}
    document["status"]["migrationState"] = {"sourceNode": "a", "targetNode": "b", **state}
    return document


def test_each_side_knows_itself():
    document = moving()
    assert movestate.is_source(document, "a")
    assert not movestate.is_source(document, "b")
    assert movestate.is_target(document, "b")
    assert not movestate.is_target(document, "a")


def test_a_guest_that_arrived_belongs_to_its_target_and_is_evacuated():
    document = moving(targetState={})
    movestate.publish_target(document, "127.66.0.2")
    movestate.start(document)
    assert movestate.in_progress(movestate.state(document))
    movestate.receive(document, "b", "then")
    assert document["metadata"]["labels"][NODE_NAME] == document["status"]["nodeName"] == "b"
    assert "evacuationNodeName" not in document["status"]
    assert not movestate.done(movestate.state(document))
    movestate.state(document)["completed"] = True
    assert movestate.done(movestate.state(document))
    movestate.forget_target(document)
    assert not movestate.is_target(document, "b")


def test_an_abort_is_told_from_a_failure():
    for reason, status in (("it broke", None), (movestate.ABORTED, "Succeeded")):
        document = moving(startTimestamp="then")
        movestate.fail(document, reason)
        state = movestate.state(document)
        assert (state["failureReason"], state.get("abortStatus")) == (reason, status)
        assert movestate.done(state)


def kubevirt(**configuration):
    return {"spec": {"configuration": configuration}}


@pytest.mark.parametrize(
    ("configuration", "off"),
    [
        ({}, False),
        ({"mediatedDevicesConfiguration": {"enabled": True}}, False),
        ({"mediatedDevicesConfiguration": {"mediatedDeviceTypes": ["nvidia-1"]}}, False),
        ({"mediatedDevicesConfiguration": {"enabled": False}}, True),
        ({"developerConfiguration": {"featureGates": ["DisableMDEVConfiguration"]}}, True),
    ],
)
def test_what_keeps_virt_handler_from_mdevs(configuration, off):
    assert switched_off(kubevirt(**configuration)) is off


def test_types_are_kept_by_agreement_and_when_they_are_kubevirts_own():
    listed = [
        {"mdevNameSelector": "VFIO AP Passthrough Device", "externalResourceProvider": True},
        {"mdevNameSelector": "Other"},
    ]
    made = {"mediatedDeviceTypes": ["nvidia-1"]}
    document = kubevirt(permittedHostDevices={"mediatedDevices": listed}, mediatedDevicesConfiguration=made)
    assert kept_types(document) == {"VFIO_AP_Passthrough_Device", "nvidia-1"}


def test_a_node_offers_what_virt_controller_selects_by():
    assert labels()["machine-type.node.kubevirt.io/s390-ccw-virtio"] == "true"
    models = {name.partition("/")[2] for name in labels() if name.startswith("host-model-cpu")}
    migration = {name.partition("/")[2] for name in labels() if name.startswith("cpu-model-migration")}
    assert models == migration
    assert beat("now", schedulable=False)["metadata"]["labels"]["kubevirt.io/schedulable"] == "false"
