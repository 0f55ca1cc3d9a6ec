"""What a move's target lacks, whatever the mode: ids, free queues, a device in order, adapters that work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vfio_ap.fleet.verdict.question import Question, Said, lowest, say
from vfio_ap.fleet.verdict.reasons import Reason
from vfio_ap.fleet.views import MatrixView
from vfio_ap.matrix import Apqn, Matrix

_DEAD = ("Deconfigured", "Checkstopped", "Unknown")


def on_target(q: Question) -> Iterator[Said]:
    """What the matrix, the kernel or the machine does not give the target."""
    matrix, source, target = q.matrix, q.source, q.target
    if not matrix.selects(target.labels):
        yield say(Reason.NotSelected, target.name, "spec.nodeSelector of the matrix excludes it")
    if above := target.limit_exceeded(q.there):
        yield say(Reason.IdAboveMaximum, target.name, above.message)
    shared = q.needed.overlap(source.present)
    if source.machine and source.machine == target.machine and len(shared):
        queue = shared.first()
        both = f"{source.name} and {target.name} are LPARs of machine {source.machine}"
        text = f"is of {source.name}: {both}, and a pair of adapter and domain belongs to one of them"
        if target.present.contains(queue):
            text += "; that both show it means that one is out of date"
        yield say(Reason.PairOfAnotherLpar, f"queue {queue}", text)
    elif absent := _absent(q):
        yield absent


def _absent(q: Question) -> Said | None:
    needed, target = q.needed, q.target
    adapters, domains = needed.adapters - target.present.adapters, needed.domains - target.present.domains
    if adapters or domains:
        parts = [f"adapters {adapters}"] * bool(adapters) + [f"domains {domains}"] * bool(domains)
        queue = Apqn(lowest(adapters or needed.adapters), lowest(domains or needed.domains))
        text = f"is not on {target.name}, which has no {' and no '.join(parts)}"
        return say(Reason.QueueAbsent, f"queue {queue}", text)
    for adapter in needed.adapters:
        card = target.cards.get(adapter)
        if card is not None and card.domains is not None and (lacking := needed.domains - card.domains):
            queue = Apqn(adapter, lowest(lacking))
            text = f"is not on {target.name}, whose adapter {adapter} has no queues for domains {lacking}"
            return say(Reason.QueueAbsent, f"queue {queue}", text)
    return None


def taken(q: Question, others: Iterable[MatrixView]) -> Iterator[Said]:
    """Who else has, or keeps, a queue of the matrix on the target."""
    matrix, target, wanted = q.matrix, q.target, q.there
    for reserved in target.reserved:
        if len(overlap := wanted.overlap(reserved)):
            yield _about(Reason.HostReserved, overlap, f"is reserved for the host on {target.name}")
    known = {matrix.uuid}
    for other in others:
        if other.name == matrix.name:
            continue
        known.add(other.uuid)
        if len(overlap := wanted.overlap(other.on(target))):
            text = f"is in APMatrix {other.name} on {target.name}"
            yield _about(Reason.QueueInOtherMatrix, overlap, text)
    for item in target.desired:
        if item.uuid not in known and len(overlap := wanted.overlap(item.configuration)):
            known.add(item.uuid)
            text = f"is in APMatrix {item.matrix} on {target.name}"
            yield _about(Reason.QueueInOtherMatrix, overlap, text)
    for uuid, held in target.mdevs.items():
        if uuid not in known and len(overlap := wanted.overlap(held.configuration)):
            text = f"is in mdev {uuid} on {target.name}"
            yield _about(Reason.QueueInOtherDevice, overlap, text)


def _about(reason: Reason, overlap: Matrix, text: str) -> Said:
    rest = len(overlap) - 1
    more = f", and so {'is 1 more queue' if rest == 1 else f'are {rest} more queues'}" if rest else ""
    return say(reason, f"queue {overlap.first()}", text + more)


def device(q: Question) -> Iterator[Said]:
    """What is wrong with the device that the target has, or has not."""
    matrix, name = q.matrix, q.target.name
    held = q.device
    if held is not None and held.state == "Foreign" and matrix.adopt and held.configuration == q.there:
        held = None
    if held is None:
        if q.prepared:
            yield say(Reason.DeviceAbsent, q.mdev, f"is not on {name}")
    elif held.state == "Foreign":
        yield say(Reason.DeviceForeign, q.mdev, f"is on {name}, and somebody else made it")
    elif held.in_use:
        yield say(Reason.DeviceInUse, q.mdev, f"a guest on {name} uses it")
    elif held.state in ("Failed", "Incomplete"):
        text = held.message or held.reason
        yield say(Reason.DeviceFailed, q.mdev, f"is {held.state} on {name}" + (f": {text}" if text else ""))
    elif q.prepared and held.state != "Ready":
        yield say(Reason.DevicePending, q.mdev, f"is {held.state} on {name}")


def adapters_work(q: Question) -> Iterator[Said]:
    """Adapters of the target that do no crypto; the guest loses nothing where the source's do none either."""
    for adapter in q.needed.adapters:
        here, there = q.source.cards.get(adapter), q.target.cards.get(adapter)
        if there is None or there.state not in _DEAD:
            continue
        mine = here.state if q.alike and here is not None else ""
        text = f"adapter {adapter} is {there.state} on {q.target.name}"
        text += f" and {mine} on {q.source.name}" if mine else ""
        queue = f"queue {Apqn(adapter, lowest(q.needed.domains))}"
        yield say(Reason.AdapterNotWorking, queue, text, mild=mine in _DEAD)
