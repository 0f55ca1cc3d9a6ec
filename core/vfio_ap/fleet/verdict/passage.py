"""What a live move needs beside a fit target: a guest and kernels that can, a known source, equal adapters.

The table of kernel-ap.md 4.3 is ``attributes.py``; here it is asked about every adapter of the guest.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfio_ap.fleet.verdict.attributes import Semantics, differences
from vfio_ap.fleet.verdict.findings import Findings
from vfio_ap.fleet.verdict.question import Question, Said, in_guest, lowest, say
from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.matrix import Apqn, Matrix


def can_migrate(q: Question) -> Iterator[Said]:
    """What the guest's kind or a kernel rules out."""
    source, target = q.source, q.target
    if q.guest.secure_execution:
        yield say(Reason.SecureExecution, "the VM", "runs under Secure Execution")
    if q.guest.post_copy:
        yield say(Reason.PostCopy, "the VM", "its migration may switch to post-copy")
    for node in (source, target):
        if node.live not in ("v1", "v4") and (q.prepared or node is source or node.live != "unknown"):
            text = f"its kernel cannot migrate vfio_ap devices (LIVE is {node.live})"
            yield say(Reason.KernelCannotMigrate, node.name, text)
    if {source.live, target.live} == {"v1", "v4"}:
        text = f"its kernel migrates by {target.live}, that of {source.name} by {source.live}"
        yield say(Reason.MigrationVersionsDiffer, target.name, text)
    if source.release and target.release and source.release != target.release:
        text = f"runs {target.release}, and {source.name} runs {source.release}"
        yield say(Reason.KernelsDiffer, target.name, text)


def what_moves(q: Question) -> Iterator[Said]:
    """Whether it is known what the guest has, and whether it can keep it."""
    name, held, moving = q.source.name, q.held, q.moving
    if not q.alike:
        text = f"{q.here} on {name}, {q.there} on {q.target.name}"
        yield say(Reason.OtherVariant, f"APMatrix {q.matrix.name}", text)
    if held is None or held.state == "Foreign":
        state = "is not shown" if held is None else "is somebody else's"
        yield say(Reason.SourceDeviceUnknown, q.mdev, f"{state} on {name}")
    elif moving is None:
        yield say(Reason.GuestMatrixUnknown, q.mdev, f"what the guest on {name} has of it is not known")
    elif not len(moving):
        yield say(Reason.NothingInGuest, q.mdev, f"the guest on {name} has none of its queues")
    elif not (moving.adapters <= q.here.adapters and moving.domains <= q.here.domains):
        text = f"the guest on {name} has {moving}, the APMatrix says {q.here}"
        yield say(Reason.SourceDiffers, q.mdev, text)
    elif kept := (q.here.adapters & q.source.present.adapters) - moving.adapters:
        text = f"adapters {kept} are kept from the guest on {name} and do not move"
        yield say(Reason.SourceFiltered, q.mdev, text)


def arrives(q: Question) -> Iterator[Said]:
    """Whether the target's device, once there is one, has room for what the guest has."""
    target, moving = q.target, q.moving
    if moving is None:
        return
    lacking = moving.control_domains - target.present.control_domains
    if lacking:
        text = f"the guest on {q.source.name} controls domains {lacking}, {target.name} has not"
        yield say(Reason.ControlDomainAbsent, f"control domain {lowest(lacking)}", text)
    made = q.prepared and q.device is not None and q.device.state == "Ready"
    if not made and (q.prepared or q.semantics is Semantics.TAKES_OVER or not q.alike):
        return
    arrived = in_guest(q.device, target) if made else _expected(q)
    queue = next((apqn for apqn in moving if arrived is None or not arrived.contains(apqn)), None)
    if q.semantics is Semantics.TAKES_OVER:
        if queue is not None:
            text = f"is in the guest on {q.source.name}, and not in its device on {target.name}"
            yield say(Reason.QueueNotInDevice, f"queue {queue}", text)
    elif arrived is None or (arrived.adapters, arrived.domains) != (moving.adapters, moving.domains):
        would = "has" if made else "would have"
        text = f"the guest has {moving} on {q.source.name}; the device {would} {arrived} on {target.name}"
        subject = f"queue {queue}" if queue is not None else q.mdev
        yield say(Reason.GuestMatrixDiffers, subject, text)


def _expected(q: Question) -> Matrix:
    """Return what a guest will get of the device on a target that has not made it yet, if all goes well.

    Under the first version the device is made with what the guest has (``fleet.shape``).
    """
    there, made = q.target.present, q.needed
    return Matrix(made.adapters & there.adapters, made.domains & there.domains)


def hardware(q: Question) -> Iterator[Said]:
    """The kernel's own table, adapter by adapter; where the guest's ids change there is nothing to compare."""
    if not q.alike:
        return
    source, target, found = q.source, q.target, Findings()
    same = q.policy.adapter_type == "Same"
    domains = q.needed.domains
    if not domains:
        return
    first, count = lowest(domains), len(domains)
    for adapter in q.needed.adapters:
        here, there = source.cards.get(adapter), target.cards.get(adapter)
        if here is None or here.functions is None:
            text = f"its hardware on {source.name} is not known"
            found.add(Reason.HardwareUnknown, Apqn(adapter, first), text, count)
            continue
        if there is None or there.functions is None:
            text = f"its hardware on {target.name} is not known"
            found.add(Reason.HardwareUnknown, Apqn(adapter, first), text, count)
            continue
        for item in differences(here, there, q.semantics, same_type=same):
            text = f"{item.what}: {item.mine} on {source.name}, {item.yours} on {target.name}"
            found.add(item.reason, Apqn(adapter, first), text, count)
        for node, card in ((source, here), (target, there)):
            if bound := card.bound & domains:
                text = f"has a bind or associate state on {node.name} that is not 0"
                found.add(Reason.QueueBound, Apqn(adapter, lowest(bound)), text, len(bound))
    yield from found.said()
