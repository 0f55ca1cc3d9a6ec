import pytest

from vfio_ap_sim.kubevirt.domain import Domain, Mdev
from vfio_ap_sim.kubevirt.libvirterror import Code, LibvirtError, command_failed
from vfio_ap_sim.kubevirt.qemu import Room, admit, departs, has_feature, sees_adapters, validate

UUID, OTHER = "6f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11", "7f0dc9a4-5a3d-5b62-9f0a-8a2d5d5f0c11"
GIB = 1 << 30


def domain(*mdevs, mode="host-model", **features):
    return Domain("bank_ledger", GIB, mode, features, mdevs or (Mdev(UUID, "vfio-ap"),))


def room(**changes):
    return Room(**{"mdevs": {UUID: 7}, "groups": {7}, "memlock": 2 * GIB, **changes})


def refusal(call, *args, **kwargs):
    with pytest.raises(LibvirtError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_a_domain_with_all_it_needs_is_admitted():
    validate(domain())
    admit(domain(), room())


@pytest.mark.parametrize(
    ("found", "given", "code", "message"),
    [
        (domain(), {"mdevs": {}}, Code.DEVICE_MISSING, f"device not found: mediated device '{UUID}' not found"),
        (
            domain(Mdev(UUID, "vfio-pci")),
            {},
            Code.CONFIG_UNSUPPORTED,
            f"unsupported configuration: invalid device API 'vfio-pci' for device /sys/bus/mdev/devices/{UUID}: "
            "device only supports 'vfio-ap'",
        ),
        (
            domain(),
            {"memlock": 2 * GIB - 1},
            Code.INTERNAL_ERROR,
            "internal error: Process exited prior to exec: libvirt: error : "
            "cannot limit locked memory to 2147483648: Operation not permitted",
        ),
        (
            domain(),
            {"groups": {8}},
            Code.INTERNAL_ERROR,
            "internal error: QEMU unexpectedly closed the monitor (vm='bank_ledger'): qemu-system-s390x: "
            f"-device vfio-ap: vfio {UUID}: failed to open /dev/vfio/7: No such file or directory",
        ),
        (
            domain(ap="disable"),
            {},
            Code.INTERNAL_ERROR,
            "internal error: QEMU unexpectedly closed the monitor (vm='bank_ledger'): qemu-system-s390x: "
            "-device vfio-ap: No 'ap-bus' bus found for device 'vfio-ap'",
        ),
    ],
)
def test_what_is_missing_is_said_as_libvirt_and_qemu_say_it(found, given, code, message):
    error = refusal(admit, found, room(**given))
    assert (error.code, error.message) == (code, message)


def test_without_a_device_nothing_of_this_is_asked():
    admit(Domain("d", GIB, "custom", {}, ()), Room({}, (), 0))


def test_a_second_vfio_ap_device_is_refused_and_one_of_another_model_is_not_counted():
    validate(domain(Mdev(UUID, "vfio-ap"), Mdev(OTHER, "vfio-pci")))
    error = refusal(validate, domain(Mdev(UUID, "vfio-ap"), Mdev(OTHER, "vfio-ap")))
    assert error.message == "unsupported configuration: Only one hostdev of model vfio-ap is supported"


@pytest.mark.parametrize(
    ("mode", "features", "has"),
    [
        ("host-model", {}, True),
        ("host-passthrough", {"ap": "require"}, True),
        ("host-model", {"ap": "disable"}, False),
        ("host-model", {"ap": "forbid"}, False),
        ("custom", {}, False),
        ("custom", {"ap": "require"}, True),
        ("custom", {"ap": "disable"}, False),
    ],
)
def test_the_hosts_model_has_ap_and_a_named_one_has_to_ask(mode, features, has):
    assert has_feature(domain(mode=mode, **features), "ap") is has


def test_without_apft_a_guest_starts_but_sees_no_adapter():
    blind = domain(apft="disable")
    admit(blind, room())
    assert not sees_adapters(blind)
    assert sees_adapters(domain())
    assert not sees_adapters(Domain("d", GIB, "host-model", {}, ()))


GOOD = {"kernel_migrates": True, "migratable": True, "post_copy": False}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"kernel_migrates": False},
            "Requested operation is not valid: cannot migrate domain: non-migratable device: vfio-ap",
        ),
        (
            {"migratable": False},
            "Requested operation is not valid: cannot migrate domain: "
            f"{UUID}: VFIO migration is not supported in kernel",
        ),
        (
            {"post_copy": True},
            f"operation failed: job 'migration out' failed: {UUID}: "
            "VFIO migration is not supported with postcopy migration",
        ),
    ],
)
def test_what_keeps_a_guest_from_leaving(changed, message):
    departs(domain(), **GOOD)
    assert refusal(departs, domain(), **(GOOD | changed)).message == message


def test_a_guest_without_device_may_always_leave():
    departs(Domain("d", GIB, "custom", {}, ()), kernel_migrates=False, migratable=False, post_copy=True)


def test_errors_read_as_kubevirt_passes_them_on():
    error = LibvirtError(Code.DEVICE_MISSING, "mediated device 'x' not found")
    said = "device not found: mediated device 'x' not found"
    assert str(error) == f"virError(Code=99, Domain=10, Message='{said}')"
    assert error.to_handler == f"LibvirtError(Code=99, Domain=10, Message='{said}')"
    assert str(command_failed("SyncVMI", 'a "b"')) == 'server error. command SyncVMI failed: "a \\"b\\""'
