"""What virt-handler writes into a VMI's status about its guest. Functions that change the VMI they are given.

After updateVMIStatus and what it calls (pkg/virt-handler/vm.go:1054 of v1.8.4). Migrations are in ``movestate``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from vfio_ap_sim.kubevirt import migratable
from vfio_ap_sim.kubevirt.api import Document

SYNCHRONIZING_FAILED = "Synchronizing with the Domain failed."


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def phase(vmi: Document) -> str:
    """Return the VMI's phase."""
    return str(vmi.get("status", {}).get("phase", ""))


def set_phase(vmi: Document, wanted: str) -> None:
    """Set the phase, and when it was first reached."""
    status = vmi["status"]
    if status.get("phase") == wanted:
        return
    status["phase"] = wanted
    passed = status.setdefault("phaseTransitionTimestamps", [])
    if all(known["phase"] != wanted for known in passed):
        passed.append({"phase": wanted, "phaseTransitionTimestamp": now()})


def set_running(vmi: Document) -> None:
    """Say that the guest runs."""
    set_phase(vmi, "Running")
    vmi["status"]["machine"] = {"type": vmi["spec"]["domain"].get("machine", {}).get("type") or "s390-ccw-virtio"}
    set_failure(vmi, "")


def set_conditions(vmi: Document) -> None:
    """Say whether the guest could migrate, whether or not it runs."""
    vmi["status"]["selinuxContext"] = "none"  # as on a node without SELinux
    _replace(vmi, migratable.condition(vmi))
    _replace(vmi, migratable.storage_condition(vmi))
    vmi["status"]["migrationMethod"] = migratable.method(vmi)


def set_failure(vmi: Document, message: str) -> None:
    """Say why the guest is not as the VMI wants it; without a message, that it is.

    A message stays until the failure is over, though the next attempt may fail for another reason
    (pkg/controller/conditions.go:CheckFailure).
    """
    conditions = vmi["status"].setdefault("conditions", [])
    known = next((c for c in conditions if c["type"] == "Synchronized"), None)
    if not message:
        if known is not None:
            conditions.remove(known)
    elif known is None or known.get("reason") != SYNCHRONIZING_FAILED:
        _replace(
            vmi,
            {
                "type": "Synchronized",
                "status": "False",
                "reason": SYNCHRONIZING_FAILED,
                "message": message,
                "lastTransitionTime": now(),
            },
        )


def _replace(vmi: Document, condition: Document) -> None:
    """Put a condition in the place of that of its type, unless it says the same."""
    conditions = vmi["status"].setdefault("conditions", [])
    known = next((c for c in conditions if c["type"] == condition["type"]), None)
    told = ("status", "reason", "message")
    if known is not None:
        if [known.get(name) for name in told] == [condition.get(name) for name in told]:
            return
        conditions.remove(known)
    conditions.append({"lastProbeTime": None, "lastTransitionTime": None, **condition})
