"""Every text by which a failed migration speaks is known, word by word: the series' chapter, kernel-ap.md 4.2."""

import pytest

from vfio_ap.fleet.verdict import Reason, recognise

UUID = "62177883-f1bb-47f0-914d-32a22e3a8804"
MDEV = f"vfio_ap_mdev {UUID}: "
LOAD = "error: operation failed: job 'migration in' failed: load of migration failed: "

DOCUMENTED = [
    # the series' chapter in vfio-ap.rst, as its tables show them
    ("error: device not found: mediated device '$UUID' not found", "DeviceAbsent"),
    (
        """error: Requested operation is not valid:                          |
+|              | cannot migrate domain: $UUID: Migration is disabled for VFIO       |
+|              | device*""",
        "MigrationDisabled",
    ),
    (
        """*error: operation failed: job 'migration in' failed: load of       |
+|              | migration failed: Bad address*""",
        "QueueNotCompatible",
    ),
    ("*qemu-system-s390x: Sibling indicated error 1*", "SourceGaveUp"),
    (
        """*vfio_ap_mdev $UUID: Migration failed: Source and target queues    |
+|              | ($APQN) are not compatible*""",
        "QueueNotCompatible",
    ),
    ("*vfio_ap_mdev $UUID: APSC facility installed in source queue $APQN*", "FacilityDiffers"),
    (
        """*vfio_ap_mdev $UUID: APSC facility not installed in target queue   |
+|              | $APQN*""",
        "FacilityDiffers",
    ),
    ("*AP type of source ($APTYPE) not compatible with target ($APTYPE)*", "AdapterOlder"),
    ("*qemu-system-s390x: error while loading state section id ...*", "TargetRefused"),
    ("*shutting down, reason=failed*", "TargetRefused"),
    ("*terminating on signal 15 from pid 1196 (/usr/sbin/virtqemud)*", "TargetRefused"),
    (
        """*error: operation f1e166ee77e6failed: job 'migration in' failed: load of       |
+|              | migration failed: Input/output error*""",
        "TargetRefused",
    ),
    (
        """*vfio_ap_mdev $UUID:                                               |
+|              | migration failed: source guest's AP config size (xx) larger than   |
+|              | target's (yy)*""",
        "GuestMatrixDiffers",
    ),
    (
        """*error: operation failed: job 'migration in' failed: load of       |
+|              | migration failed: No such device*""",
        "TargetRefused",
    ),
    (
        """*vfio_ap_mdev $UUID:                                               |
+|              | migration failed: number of queues on source (x) and target (y)    |
+|              | guests differ*""",
        "GuestMatrixDiffers",
    ),
    # kernel-ap.md 4.2, L-2, L-3, L-6, 3.3
    (MDEV + "Queue 06.00ab not available to vfio_ap driver on target host", "QueueNotInDevice"),
    (f"vfio_ap_mdev: {UUID}: Control domain 0011 not available on the destination host", "ControlDomainAbsent"),
    (MDEV + "Failed to get hwinfo for queue 05.0004: TAPQ rc=1", "TargetAnswersBadly"),
    (MDEV + "Migration failed: Source and target queue (05.0004) not compatible", "QueueNotCompatible"),
    (MDEV + "mex4k facility not installed in source queue 05.0004", "FacilityDiffers"),
    (MDEV + "crt4k facility installed in target queue 05.0004", "FacilityDiffers"),
    (MDEV + "Coprocessor-mode facility installed in source queue 05.0004", "ModeDiffers"),
    (MDEV + "Accelerator-mode facility not installed in source queue 05.0004", "ModeDiffers"),
    (MDEV + "XCP-mode facility not installed in target queue 05.0004", "ModeDiffers"),
    (MDEV + "AP-extended-addressing (APXA) facility installed in source queue 05.0004", "FacilityDiffers"),
    (MDEV + "Stateless-command-filtering (SLCF) not available in target queue 05.0004", "FacilityDiffers"),
    (MDEV + "AP type of source (0e) not compatible with target (0d)", "AdapterOlder"),
    (MDEV + "Bind/associate state for source (0) and target (1) queue 05.0004 must be 0", "QueueBound"),
    (MDEV + "Full native card function available on source queue 05.0004", "ClassDiffers"),
    (MDEV + "Only stateless functions available on target queue 05.0004", "ClassDiffers"),
    (
        MDEV + f"Userspace may not assign queue 06.0004 to mdev: already assigned to {UUID}",
        "QueueInOtherDevice",
    ),
    (MDEV + "migration failed: queue 06.0004 not assigned to guest matrix", "GuestMatrixDiffers"),
    (
        MDEV + "migration failed: source guest's AP config size (104) larger than target's (72)",
        "GuestMatrixDiffers",
    ),
    (MDEV + "migration failed: number of queues on source (4) and target (6) guests differ", "GuestMatrixDiffers"),
    (MDEV + "Migration not allowed from or to a Secure Execution guest", "SecureExecution"),
    (LOAD + "Invalid argument", "QueueNotCompatible"),
    (LOAD + "Argument list too long", "GuestMatrixDiffers"),
    (LOAD + "Address already in use", "QueueInOtherDevice"),
    (LOAD + "Cannot assign requested address", "HostReserved"),
    (LOAD + "Device or resource busy", "DeviceInUse"),
    (LOAD + "Operation canceled", "QueueNotInDevice"),
    (LOAD + "Operation not permitted", "SecureExecution"),
    (LOAD + "Illegal seek", "TargetRefused"),
    ("Failed to load vmstate version_id: 1, ret: -19", "TargetRefused"),
    ("State blocked by non-migratable device 'vfio-ap'", "KernelCannotMigrate"),
    ("non-migratable device: vfio-ap", "KernelCannotMigrate"),
    (
        "Requested operation is not valid: cannot migrate domain: non-migratable device: vfio-ap",
        "KernelCannotMigrate",
    ),
    (f"{UUID}: VFIO migration is not supported in kernel", "KernelCannotMigrate"),
    (f"{UUID}: VFIO migration is not supported with postcopy migration", "PostCopy"),
    ("Requested operation is not valid: cannot migrate domain: something else", "KernelCannotMigrate"),
]


@pytest.mark.parametrize(("text", "reason"), DOCUMENTED)
def test_every_documented_text_is_known(text, reason):
    found = recognise(text)
    assert found is not None
    assert found.reason == reason
    assert found.message
    assert found.remedy == Reason[reason].remedy
    around = f"Live migration failed error encountered: virError(Code=9, Message='{text}')".replace(" ", "  \n\t")
    again = recognise(around)
    assert again is not None
    assert (again.reason, again.subject) == (found.reason, found.subject)


@pytest.mark.parametrize(
    ("text", "subject", "words"),
    [
        (MDEV + "Queue 06.00ab not available to vfio_ap driver on target host", "queue 06.00ab", "source"),
        (
            MDEV + "APSC facility installed in source queue 05.0004",
            "queue 05.0004",
            "APSC: installed on the source, not installed on the target",
        ),
        (
            MDEV + "Stateless-command-filtering (SLCF) available in target queue 05.0004",
            "queue 05.0004",
            "not available on the source, available on the target",
        ),
        (
            MDEV + "Coprocessor-mode  facility not installed target queue 05.0004",
            "queue 05.0004",
            "Coprocessor-mode: installed on the source, not installed on the target",
        ),
        (MDEV + "AP type of source (0e) not compatible with target (0d)", "adapter", "0e on the source, 0d"),
        (f"error: device not found: mediated device '{UUID}' not found", f"mdev {UUID}", "not on the target"),
        (
            f"vfio_ap_mdev: {UUID}: Control domain 0011 not available on the destination host",
            "control domain 0011",
            "",
        ),
        (
            MDEV + f"Userspace may not assign queue 06.0004 to mdev: already assigned to {UUID}",
            "queue 06.0004",
            UUID,
        ),
        (
            MDEV + "migration failed: number of queues on source (4) and target (6) guests differ",
            "",
            "4 on the source, 6 on the target",
        ),
    ],
)
def test_queue_and_both_values_are_kept(text, subject, words):
    found = recognise(text)
    assert found is not None
    assert found.subject == subject
    assert words in found.message


def test_of_several_texts_the_one_that_says_most_is_taken():
    log = f"""
[  12.000001] {MDEV}Migration failed: Source and target queue (05.0004) not compatible
[  12.000002] {MDEV}AP type of source (0e) not compatible with target (0d)
qemu-system-s390x: load of migration failed: Invalid argument
"""
    found = recognise(log)
    assert found is not None
    assert found.reason == "AdapterOlder"


@pytest.mark.parametrize("text", ["", "initiating migration", "server error. command Migrate failed", "N/A"])
def test_other_texts_are_not_known(text):
    assert recognise(text) is None
